"""The objective's benchmark on the device: OCR and CTC loss of a batch by upstream's way and by the library's."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.batch import benchmark_batch
from tests.benchmarks.peak_memory import WAYS
from tests.gpu.measuring import measure
from tests.gpu.records import Records
from tests.gpu.sizes import Size

PART = "reading"


def run(records: Records, size: Size, say: Callable[[str], None]) -> None:
    """Each way, forward and backward from the decoded pictures to their gradient; what is known is left out."""
    decoded, images, lines = benchmark_batch()
    for way, make in WAYS.items():
        if records.get(PART, way) is None:
            compute = make(size.device)
            given = decoded.to(size.device), images.to(size.device), lines
            values: list[tuple] = []
            found = measure(lambda compute=compute, given=given, values=values: values.append(compute(*given)),
                            size.device, size.repeats, size.warm_up)
            ocr, ctc, gradient = values[-1]
            found |= {"ocr": ocr, "ctc": ctc, "gradient_norm": float(gradient.norm())}
            records.add(PART, way, found)
            say(f"  {way}: {found['seconds']:.4f} s, {found['peak_mib']} MiB at the peak; ocr {ocr:.6f}, ctc {ctc:.6f}")
