#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace baleen {

namespace {

// YaRN's attention magnitude g(s, m).
double YarnMagnitude(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// The (fractional) pair index whose wavelength makes `rotations` turns over the original context.
double CorrectionDim(double rotations, size_t dim, double theta, double original_context) {
  return static_cast<double>(dim) *
         std::log(original_context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
}

}  // namespace

double SoftmaxScale(const ModelConfig& config) {
  double scale = 1.0 / std::sqrt(static_cast<double>(config.qk_head_dim()));
  if (config.yarn && config.yarn->mscale_all_dim != 0) {
    const double g = YarnMagnitude(config.yarn->factor, config.yarn->mscale_all_dim);
    scale *= g * g;
  }
  return scale;
}

RopeFrequencies MakeRopeFrequencies(const ModelConfig& config) {
  const size_t dim = config.qk_rope_head_dim;
  RopeFrequencies result;
  result.inv_freq.resize(dim / 2);
  double low = 0, high = 0;
  if (config.yarn) {
    const YarnConfig& yarn = *config.yarn;
    const auto corr = [&](double rotations) {
      return CorrectionDim(rotations, dim, config.rope_theta,
                           yarn.original_max_position_embeddings);
    };
    low = std::max(std::floor(corr(yarn.beta_fast)), 0.0);
    high = std::min(std::ceil(corr(yarn.beta_slow)), static_cast<double>(dim) - 1);
    if (low == high) high += 0.001;
    result.magnitude = static_cast<float>(YarnMagnitude(yarn.factor, yarn.mscale) /
                                          YarnMagnitude(yarn.factor, yarn.mscale_all_dim));
  }
  for (size_t i = 0; i < dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(dim);
    double freq = std::pow(config.rope_theta, -exponent);
    if (config.yarn) {
      // Fast pairs keep their frequency, slow ones are stretched by `factor`.
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      freq = freq * (1 - ramp) + freq / config.yarn->factor * ramp;
    }
    result.inv_freq[i] = static_cast<float>(freq);
  }
  return result;
}

}  // namespace baleen
