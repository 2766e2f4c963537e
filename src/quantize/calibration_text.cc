#include "quantize/calibration.h"

// The file as it is, between two symbols: a literal of this length is not portable C++.
asm(".section .rodata\n"
    ".globl baleen_calibration_begin\n"
    ".globl baleen_calibration_end\n"
    "baleen_calibration_begin:\n"
    ".incbin \"" BALEEN_CALIBRATION_FILE
    "\"\n"
    "baleen_calibration_end:\n"
    ".byte 0\n"
    ".previous\n");

extern "C" const char baleen_calibration_begin[];
extern "C" const char baleen_calibration_end[];

namespace baleen {

std::string_view ShippedCalibrationText() {
  return {baleen_calibration_begin,
          static_cast<size_t>(baleen_calibration_end - baleen_calibration_begin)};
}

}  // namespace baleen
