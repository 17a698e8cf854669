// Runs a libFuzzer target without libFuzzer: every file of the folder in
// argv[1], then seeded random changes to them, argv[2] rounds (default 20000).
// For compilers that have no -fsanitize=fuzzer, and for a fast ctest entry.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()),
                         input.size());
}

std::vector<std::string> ReadCorpus(const char* folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file),
                        std::istreambuf_iterator<char>());
  }
  return corpus;
}

// One to four of: change, insert or drop a byte, repeat or splice a stretch.
std::string Mutate(const std::vector<std::string>& corpus, std::mt19937* rng) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : (*rng)() % n; };
  std::string text = corpus[below(corpus.size())];
  for (size_t i = 1 + below(4); i > 0; --i) {
    const size_t at = below(text.size());
    switch (below(5)) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(below(256));
        break;
      case 1:
        text.insert(at, 1, static_cast<char>(below(256)));
        break;
      case 2:
        text.erase(at, 1 + below(8));
        break;
      case 3:
        text.insert(at, text.substr(below(text.size()), 1 + below(16)));
        break;
      default: {
        const std::string& other = corpus[below(corpus.size())];
        text.insert(at, other.substr(below(other.size()), 1 + below(16)));
      }
    }
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr uint32_t kSeed = 20261123;
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER [ROUNDS]\n", argv[0]);
    return 1;
  }
  const std::vector<std::string> corpus = ReadCorpus(argv[1]);
  if (corpus.empty()) {
    std::fprintf(stderr, "%s is empty\n", argv[1]);
    return 1;
  }
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 20000;
  std::printf("%zu inputs, %d rounds, seed %u\n", corpus.size(), rounds, kSeed);
  for (const std::string& input : corpus) Run(input);
  std::mt19937 rng(kSeed);
  for (int i = 0; i < rounds; ++i) Run(Mutate(corpus, &rng));
  return 0;
}
