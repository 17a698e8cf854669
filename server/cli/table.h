// Aligned plain-text tables for a terminal.
#ifndef DESCANT_SERVER_CLI_TABLE_H_
#define DESCANT_SERVER_CLI_TABLE_H_

#include <string>
#include <vector>

namespace descant::cli {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
};

// Thread-compatible.
class Table {
 public:
  explicit Table(std::vector<Column> columns);

  // REQUIRES: one cell per column. Control characters become '?', so that no
  // cell moves the cursor.
  void AddRow(std::vector<std::string> cells);

  // Titles, then the rows, two spaces between columns, no trailing spaces.
  // Width counts UTF-8 code points.
  std::string Render() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_TABLE_H_
