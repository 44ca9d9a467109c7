// Loads rows into a table of PostgreSQL over several connections at once.
// Shows libpq, a blocking library, made cooperative by weft::Patch; a channel hands batches to its fibers.
//   bulk_loader [DSN [ROWS [CONNECTIONS]]]       as: bulk_loader 'host=localhost dbname=test' 100000 8
#include <libpq-fe.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <weft/weft.hpp>

struct Connection {
  explicit Connection(const char* dsn) : connection(PQconnectdb(dsn), &PQfinish) {
    if (PQstatus(connection.get()) != CONNECTION_OK) fail();
  }
  void run(const char* sql) { expect(PQexec(connection.get(), sql), PGRES_COMMAND_OK); }
  void copy(const char* sql, const std::string& rows) {
    expect(PQexec(connection.get(), sql), PGRES_COPY_IN);
    if (PQputCopyData(connection.get(), rows.data(), static_cast<int>(rows.size())) < 1) fail();
    if (PQputCopyEnd(connection.get(), nullptr) < 1) fail();
    expect(PQgetResult(connection.get()), PGRES_COMMAND_OK);
  }
  void expect(PGresult* answer, ExecStatusType wanted) {
    const std::unique_ptr<PGresult, void (*)(PGresult*)> result(answer, &PQclear);
    if (PQresultStatus(answer) != wanted) fail();
  }
  [[noreturn]] void fail() {
    weft::this_fiber::check();  // was the wait in libpq only cancelled?
    throw std::runtime_error(PQerrorMessage(connection.get()));
  }
  std::unique_ptr<PGconn, void (*)(PGconn*)> connection;
};

int main(int argc, char** argv) try {
  const char* dsn = argc > 1 ? argv[1] : "";  // empty: as PGHOST and kin say
  const int rows = argc > 2 ? atoi(argv[2]) : 100000, connections = argc > 3 ? atoi(argv[3]) : 8;
  const weft::Patch patch;
  Connection(dsn).run("CREATE TABLE IF NOT EXISTS weft_rows (id bigint PRIMARY KEY, text text NOT NULL)");
  weft::Channel<std::string> batches(4);
  weft::TaskGroup group;
  for (int i = 0; i < std::max(connections, 1); ++i)
    (void)group.spawn([&] {
      Connection connection(dsn);
      for (const std::string& batch : batches)
        connection.copy("COPY weft_rows FROM STDIN (FORMAT csv)", batch);
    });
  (void)group.spawn([&] {
    std::string batch;
    for (int row = 0; row < rows; ++row) {
      batch += std::to_string(row) + ",row " + std::to_string(row) + "\n";
      if (batch.size() > 100000 || row == rows - 1) batches.send(std::exchange(batch, {}));
    }
    batches.close();
  });
  group.join();
  printf("%d rows loaded\n", rows);
} catch (const std::exception& error) {
  fprintf(stderr, "bulk_loader: %s\n", error.what());
  return 1;
}
