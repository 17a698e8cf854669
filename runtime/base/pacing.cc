#include "runtime/base/pacing.h"

#include "runtime/base/check.h"

namespace descant {
namespace {

thread_local Pacer* installed = nullptr;

}  // namespace

void Breathe() {
  if (installed != nullptr) installed->Breathe();
}

ScopedPacer::ScopedPacer(Pacer* pacer) {
  DESCANT_CHECK(installed == nullptr);
  installed = pacer;
}

ScopedPacer::~ScopedPacer() { installed = nullptr; }

}  // namespace descant
