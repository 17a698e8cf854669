// One picture of `descant top`.
#ifndef DESCANT_SERVER_CLI_TOP_TOP_FRAME_H_
#define DESCANT_SERVER_CLI_TOP_TOP_FRAME_H_

#include <string>

#include "server/cli/top/top_stats.h"

namespace descant::cli {

struct TopView {
  std::string title;   // model, device and version; "" where not known
  std::string notice;  // why there is nothing newer; "" where there is
  int width = 80;      // columns
  int height = 24;     // lines; 0: as many as there are to show
  bool bold = false;   // titles in bold: for terminals
};

// At most `height` lines of at most `width` columns, each ended by a newline.
// Printable ASCII and, with `bold`, SGR sequences of its own: what a server
// calls its tenants and adapters can't reach the terminal. What doesn't fit is
// cut ("~"), columns that matter less go first, and a line says how many rows
// are left out. A pure function.
std::string RenderTop(const TopStats& stats, const TopView& view);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_TOP_TOP_FRAME_H_
