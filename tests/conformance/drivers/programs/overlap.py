"""N threads, each with a connection of its own, each running one slow statement.

A plain threaded program: it knows nothing of Weft. Prints one JSON object when all threads are done:
    {"seconds": 0.6, "results": ["ok", "OperationalError: ...", ...]}
"""

import argparse
import json
import threading
import time


def connector(arguments):
    if arguments.driver == "psycopg2":
        import psycopg2
        return lambda number: psycopg2.connect(host="127.0.0.1", port=arguments.port, user="postgres",
                                               dbname="postgres", application_name=f"overlap-{number}")
    import MySQLdb
    return lambda number: MySQLdb.connect(host="127.0.0.1", port=arguments.port, user="root")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("driver", choices=("psycopg2", "mysqlclient"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=20)
    parser.add_argument("--statement", required=True)
    arguments = parser.parse_args()
    connect = connector(arguments)
    results = ["did not run"] * arguments.threads

    def query(number):
        try:
            connection = connect(number)
            cursor = connection.cursor()
            cursor.execute(arguments.statement)
            cursor.fetchall()
            connection.close()
            results[number] = "ok"
        except Exception as error:
            results[number] = f"{type(error).__name__}: {error}"

    started = time.monotonic()
    threads = [threading.Thread(target=query, args=(number,)) for number in range(arguments.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": time.monotonic() - started, "results": results}))


if __name__ == "__main__":
    main()
