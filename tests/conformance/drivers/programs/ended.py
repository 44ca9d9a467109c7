"""Ends what psycopg2 does, at several places, by cancel() and by timeouts; prints what came out of each."""

import json
import sys

import psycopg2

import weft

dsn = sys.argv[1]


def in_a_transaction():
    with psycopg2.connect(dsn) as connection:
        connection.cursor().execute("SELECT pg_sleep(60)")


def with_a_handler():
    with psycopg2.connect(dsn) as connection:
        try:
            connection.cursor().execute("SELECT pg_sleep(60)")
        except psycopg2.Error as error:
            return repr(error)


def in_a_cursor():
    connection = psycopg2.connect(dsn)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", (60,))


class Rows:
    """What COPY reads from; the server stops taking it."""

    def read(self, size):
        return "1\t" + "x" * (size - 3) + "\n"


def in_copy():
    connection = psycopg2.connect(dsn)
    cursor = connection.cursor()
    # libpq says good-bye before it closes, and that waits behind what the server does not take.
    cursor.execute("SET statement_timeout = '3s'")
    cursor.execute("CREATE TEMPORARY TABLE rows (number int, text text)")
    cursor.execute("CREATE FUNCTION pg_temp.stop() RETURNS trigger LANGUAGE plpgsql AS "
                   "'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'")
    cursor.execute("CREATE TRIGGER stop BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION pg_temp.stop()")
    cursor.copy_expert("COPY rows FROM STDIN", Rows(), 1000)


def ended_by_cancel(function):
    fiber = weft.spawn(function)
    weft.sleep(0.2)
    fiber.cancel()
    return fiber.exception(30)


def ended_by_timeout(function):
    try:
        with weft.timeout(0.2):
            return function()
    except BaseException as error:
        return error


weft.patch()
print(json.dumps({f"{end.__name__} {function.__name__}": type(end(function)).__name__
                  for function in (in_a_transaction, with_a_handler, in_a_cursor, in_copy)
                  for end in (ended_by_cancel, ended_by_timeout)}))
