#include "runtime/doctor.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace weft::engine::doctor {
namespace {

struct Case {
  std::vector<std::string> command;
  const char* name;  // part of the reloader's; null: none
};

class FindReloader : public testing::TestWithParam<Case> {};

TEST_P(FindReloader, KnowsServersThatReexecute) {
  const auto reloader = find_reloader(GetParam().command, nullptr);
  if (!GetParam().name) {
    EXPECT_FALSE(reloader) << reloader->name;
    return;
  }
  ASSERT_TRUE(reloader);
  EXPECT_NE(reloader->name.find(GetParam().name), std::string::npos) << reloader->name;
  EXPECT_NE(reloader->advice.find("--children"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Commands, FindReloader,
    testing::Values(
        Case{{"flask", "run"}, nullptr}, Case{{"flask", "--debug", "run"}, "flask"},
        Case{{"python3", "-m", "flask", "run", "--debug"}, "flask"},
        Case{{"/venv/bin/flask", "run", "--debug", "--no-reload"}, nullptr},
        Case{{"python", "manage.py", "runserver"}, "Django"},
        Case{{"python", "proj/manage.py", "runserver", "0:80", "--noreload"}, nullptr},
        Case{{"python", "manage.py", "migrate"}, nullptr},
        Case{{"python", "-m", "django", "runserver"}, "Django"}, Case{{"uvicorn", "app:app"}, nullptr},
        Case{{"uvicorn", "app:app", "--reload"}, "uvicorn"},
        Case{{"uvicorn", "app:app", "--workers=4"}, "uvicorn"},
        Case{{"gunicorn", "app:app", "-w", "4"}, nullptr},
        Case{{"gunicorn", "--reload", "app:app"}, "gunicorn"}, Case{{"fastapi", "dev", "main.py"}, "fastapi"},
        Case{{"fastapi", "run", "main.py"}, nullptr}, Case{{"watchfiles", "python app.py"}, "watchfiles"},
        Case{{"python", "-m", "watchfiles", "app.main"}, "watchfiles"},
        Case{{"python", "app.py", "--reload"}, nullptr}));

TEST(FindReloader, HeedsFlaskDebug) {
  EXPECT_TRUE(find_reloader({"flask", "run"}, "1"));
  EXPECT_FALSE(find_reloader({"flask", "run"}, "0"));
  EXPECT_FALSE(find_reloader({"uvicorn", "app:app"}, "1"));
}

TEST(DoctorCommand, ListsTheCallsOfAProgram) {
  const CommandReport report = examine_command({std::filesystem::read_symlink("/proc/self/exe")});
  ASSERT_TRUE(report.program.runnable()) << report.program.message;
  ASSERT_FALSE(report.objects.empty());
  const auto libc = std::find_if(
      report.objects.begin(), report.objects.end(),
      [](const ObjectReport& object) { return object.path.find("libc.so") != std::string::npos; });
  ASSERT_NE(libc, report.objects.end());
  EXPECT_FALSE(libc->untouched.empty());
  EXPECT_TRUE(libc->routed.empty());
  EXPECT_TRUE(libc->has_tls);
  bool any = false;
  for (const ObjectReport& object : report.objects) any |= !object.routed.empty();
  EXPECT_TRUE(any);
}

TEST(DoctorCommand, SaysWhyAProgramCannotRun) {
  const CommandReport report = examine_command({"/no/such/program"});
  EXPECT_TRUE(report.objects.empty());
  EXPECT_NE(render(report, Format::kText).find("does not exist"), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(render(report, Format::kJson))["runnable"], false);
}

// A machine on which everything that can bite does.
SystemReport bad_machine() {
  SystemReport report;
  report.kernel = "Linux 5.10.0";
  report.io_uring = {false, {}, "kernel.io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0"};
  report.backend = Backend::kEpoll;
  report.backend_why = "epoll; the kernel refuses io_uring";
  report.pythons = {{"/usr/bin/python3.9", "3.9.2", false, false}};
  report.limits = {
      {"vm.max_map_count", "65530", true, "memory mappings", "sysctl -w vm.max_map_count=1048576"},
      {"ulimit -v", "unlimited", false, "address space", ""}};
  return report;
}

TEST(DoctorSystem, TextNamesTheCommandThatLiftsEachLimit) {
  const std::string text = render(bad_machine(), Format::kText);
  for (const char* part :
       {"no: kernel.io_uring_disabled is 2", "lift it with: sysctl -w kernel.io_uring_disabled=0",
        "epoll; the kernel refuses", "mprotect", "3.9.2", "not supported",
        "WILL BITE; lift it with: sysctl -w vm.max_map_count=1048576"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  EXPECT_EQ(text.find("WILL BITE"), text.rfind("WILL BITE"));
}

TEST(DoctorSystem, OpensWithAVerdict) {
  SystemReport report = bad_machine();
  const auto expect = [&](Level level, std::string_view part) {
    const Verdict verdict = judge(report);
    EXPECT_EQ(verdict.level, level) << verdict.text;
    EXPECT_NE(verdict.text.find(part), std::string::npos) << verdict.text;
    EXPECT_NE(render(report, Format::kText).find(": " + verdict.text + "\n"), std::string::npos);
    EXPECT_EQ(nlohmann::json::parse(render(report, Format::kJson))["verdicts"][0]["text"], verdict.text);
  };
  expect(Level::kWarning, "no Python that it supports: install");
  report.pythons.push_back({"/usr/bin/python3.12", "3.12.1", false, true});
  expect(Level::kOk, "weft run /usr/bin/python3.12 app.py");
  expect(Level::kOk, "lift vm.max_map_count");
  report.python3_version = "3.9.2";
  expect(Level::kWarning,
         "python3 is Python 3.9.2, which it does not support: name another, as in weft run /usr");
  report.python3_version = "3.12.1";
  report.limits.clear();
  expect(Level::kOk, "weft run python3 app.py");
  report.backend.reset();
  expect(Level::kError, "Weft cannot run here: epoll; the kernel refuses");
}

TEST(DoctorCommand, OpensWithTheWorstVerdict) {
  CommandReport report;
  report.command = {"/usr/bin/python3", "app.py"};
  report.program.kind = interpose::elf::ProgramKind::kRunnable;
  report.program.path = "/usr/bin/python3";
  report.program.chain = {"/usr/bin/python3"};
  report.program.python = true;
  ASSERT_EQ(judge(report).size(), 1u);
  EXPECT_EQ(judge(report)[0].level, Level::kOk);
  report.missing = {"libq.so"};
  report.reloader = Reloader{"a reloader", "advice"};
  const std::vector<Verdict> verdicts = judge(report);
  ASSERT_EQ(verdicts.size(), 3u);
  EXPECT_EQ(verdicts[0].text, "a reloader: advice");
  EXPECT_EQ(verdicts[1].text, "the library libq.so is not found: install it");
  EXPECT_EQ(verdicts[2].level, Level::kOk);
  EXPECT_EQ(render(report, Format::kText).find("WARNING: a reloader"), 0u);
}

TEST(DoctorSystem, JsonHoldsTheSame) {
  const auto json = nlohmann::json::parse(render(bad_machine(), Format::kJson));
  EXPECT_EQ(json["io_uring"]["available"], false);
  EXPECT_EQ(json["io_uring"]["remedy"], "sysctl -w kernel.io_uring_disabled=0");
  EXPECT_EQ(json["backend"]["auto"], "epoll");
  EXPECT_EQ(json["guard_pages"], "mprotect");
  EXPECT_EQ(json["limits"][0]["bites"], true);
}

TEST(DoctorSystem, ExaminesThisMachine) {
  const SystemReport report = examine_system();
  ASSERT_TRUE(report.backend) << report.backend_why;
  EXPECT_EQ(report.io_uring.available, *report.backend == Backend::kIoUring);
  EXPECT_NE(report.io_uring.available, report.io_uring.features.empty());
  EXPECT_FALSE(report.pythons.empty());
  for (const Limit& limit : report.limits) EXPECT_EQ(limit.bites, !limit.remedy.empty()) << limit.name;
}

}  // namespace
}  // namespace weft::engine::doctor
