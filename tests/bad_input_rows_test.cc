// Holds tests/BAD_INPUTS.md to the sources: its rows are all there, and the
// tests that it names exist where it says.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace descant {
namespace {

namespace fs = std::filesystem;

std::string Read(const std::string& path) {
  const char* folder = std::getenv("DESCANT_SOURCE_DIR");
  std::ifstream file(fs::path(folder != nullptr ? folder : ".") / path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The last cell of each row, by the row's number.
std::map<int, std::string> TestsByRow() {
  std::map<int, std::string> rows;
  std::istringstream lines(Read("tests/BAD_INPUTS.md"));
  const std::regex row(R"(^\| (\d+) \|.*\| ([^|]+) \|$)");
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (!std::regex_match(line, match, row)) continue;
    const bool added = rows.emplace(std::stoi(match[1]), match[2]).second;
    EXPECT_TRUE(added) << "twice: row " << match[1];
  }
  return rows;
}

TEST(BadInputRowsTest, EveryRowIsThere) {
  std::set<int> expected = {94};
  for (int row = 55; row <= 90; ++row) expected.insert(row);
  std::set<int> found;
  for (const auto& [row, tests] : TestsByRow()) found.insert(row);
  EXPECT_EQ(found, expected);
}

TEST(BadInputRowsTest, EveryTestIsWhereItIsSaidToBe) {
  // `file` Suite.Name, Suite.Name; `file` ...
  const std::regex part(R"(`([^`]+)`((?:,? \w+\.\w+)+))");
  const std::regex name(R"((\w+)\.(\w+))");
  int tests = 0;
  for (const auto& [row, cell] : TestsByRow()) {
    const std::sregex_iterator end;
    std::sregex_iterator file(cell.begin(), cell.end(), part);
    EXPECT_NE(file, end) << "row " << row << " names no test";
    for (; file != end; ++file) {
      const std::string source = Read((*file)[1]);
      EXPECT_NE(source, "") << (*file)[1];
      const std::string names = (*file)[2];
      for (std::sregex_iterator test(names.begin(), names.end(), name);
           test != end; ++test) {
        const std::regex defined("TEST(_F|_P)?\\(" + (*test)[1].str() +
                                 ",\\s*" + (*test)[2].str() + "\\)");
        EXPECT_TRUE(std::regex_search(source, defined))
            << "row " << row << ": no " << (*test)[0] << " in " << (*file)[1];
        ++tests;
      }
    }
  }
  EXPECT_GT(tests, 40);
}

}  // namespace
}  // namespace descant
