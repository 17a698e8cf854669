#include "server/cli/table.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "runtime/base/check.h"

namespace descant::cli {
namespace {

size_t Width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) {
        return (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
      }));
}

void AppendCell(const std::string& cell, size_t width, Align align,
                std::string* line) {
  const size_t padding = width - std::min(width, Width(cell));
  if (align == Align::kRight) line->append(padding, ' ');
  line->append(cell);
  if (align == Align::kLeft) line->append(padding, ' ');
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::AddRow(std::vector<std::string> cells) {
  DESCANT_CHECK(cells.size() == columns_.size());
  for (std::string& cell : cells) {
    for (char& byte : cell) {
      const auto value = static_cast<unsigned char>(byte);
      if (value < 0x20 || value == 0x7f) byte = '?';
    }
  }
  rows_.push_back(std::move(cells));
}

std::string Table::Render() const {
  std::vector<size_t> widths;
  std::vector<std::string> titles;
  for (size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    size_t width = Width(columns_[i].title);
    for (const auto& row : rows_) width = std::max(width, Width(row[i]));
    widths.push_back(width);
  }
  std::string text;
  const auto append_line = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i > 0) line += "  ";
      AppendCell(cells[i], widths[i], columns_[i].align, &line);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  append_line(titles);
  for (const auto& row : rows_) append_line(row);
  return text;
}

}  // namespace descant::cli
