// Long work in the background that gives way to what can't wait.
#ifndef DESCANT_RUNTIME_BASE_PACING_H_
#define DESCANT_RUNTIME_BASE_PACING_H_

namespace descant {

// Decides how the thread it is installed on goes on.
class Pacer {
 public:
  virtual ~Pacer() = default;
  // The thread is between two pieces of its work. May sleep.
  virtual void Breathe() = 0;
};

// To be called between pieces of some 100 microseconds of work that may run in
// the background, with no lock held. On a thread without a pacer it does
// nothing.
void Breathe();

// Installs `pacer` on this thread while it lives. They don't nest.
class ScopedPacer {
 public:
  explicit ScopedPacer(Pacer* pacer);
  ~ScopedPacer();
  ScopedPacer(const ScopedPacer&) = delete;
  ScopedPacer& operator=(const ScopedPacer&) = delete;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_BASE_PACING_H_
