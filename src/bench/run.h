// The whole measurement on one model: every setting with every method, every depth, every test.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/row.h"
#include "bench/setting.h"
#include "engine/session.h"
#include "text/tokenizer.h"

namespace kvmerger::bench {

struct Options {
  std::vector<uint32_t> prompts, generations, depths;  // 0 among the first two: no such test
  std::vector<Setting> settings;
  std::vector<Method> methods;
  uint32_t repetitions = 5;
  std::string profile;  // file of the model's profile; empty: that of the user's cache
};

// Throws UsageError when there is nothing to measure.
void check(const Options& options);

struct Subject {
  std::shared_ptr<const model::Model> model;
  const text::Tokenizer& tokenizer;
};

struct Listener {
  std::function<engine::RunHooks(const std::string& what)> begin;  // of every phase, in words
  std::function<void(const Row&)> row;
};

// Of every number of threads, measured once in the life of this object.
class Bandwidths {
 public:
  double of(uint32_t threads);

 private:
  std::map<uint32_t, double> known_;
};

// Throws as fill and measure do; rows given to the listener before are done.
void run(const Options& options, const Subject& subject, Bandwidths& bandwidths, const Listener& listener);

}  // namespace kvmerger::bench
