// checkpoint/stories_testing.h: a trained model for tests that run one as a whole.
//
// It is the bundled model; with sanitizers, which make it ten times as slow, its first two layers,
// a dense one and one with experts. A test program writes these for itself and removes them at its
// end.
#ifndef BALEEN_CHECKPOINT_STORIES_TESTING_H_
#define BALEEN_CHECKPOINT_STORIES_TESTING_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/sanitized_testing.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"

namespace baleen {

inline constexpr size_t kTestStoriesLayers = kSanitized ? 2 : 6;

// Its directory, the same at every call.
inline const std::string& TestStories() {
  struct Copy {
    std::string path = BALEEN_SOURCE_DIR "/models/baleen-stories-mini";
    bool is_ours = false;

    Copy() {
      if (!kSanitized) return;
      const std::string from =
          std::exchange(path, testing::TempDir() + "/test_stories." + std::to_string(getpid()));
      is_ours = true;
      std::filesystem::copy(from, path);
      std::filesystem::remove(path + "/model.safetensors");

      std::string config = ReadFile(from + "/config.json", 1 << 20);
      const std::string six = "\"num_hidden_layers\": 6";
      config.replace(config.find(six), six.size(),
                     "\"num_hidden_layers\": " + std::to_string(kTestStoriesLayers));
      std::ofstream(path + "/config.json") << config;

      const auto source = OpenSafetensors(from);
      std::vector<TensorSpec> specs;
      const std::string layer = "model.layers.";
      for (const std::string& name : source->Names()) {
        if (name.starts_with(layer) &&
            std::stoul(name.substr(layer.size())) >= kTestStoriesLayers) {
          continue;
        }
        const TensorView& view = *source->Find(name);
        specs.push_back({name, view.dtype, view.shape});
      }
      SafetensorsWriter writer(path + "/model.safetensors", specs);
      for (const TensorSpec& spec : specs) {
        const TensorView& view = *source->Find(spec.name);
        writer.Write(spec.name, {view.data, view.size_bytes()});
      }
      writer.Finish();
    }
    ~Copy() {
      if (is_ours) std::filesystem::remove_all(path);
    }
  };
  static const Copy copy;
  return copy.path;
}

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_STORIES_TESTING_H_
