"""A task where transfer does not pay, and whether `graft.compare` says so; ``python -m bench.does_not_pay``.

scikit-learn's digits have 8 x 8 grey pixels: a network pretrained on photos has little to say about them, and a simple
head on the 64 pixels a lot. ``python -m bench.does_not_pay 32`` shows the network the digits at 32 pixels instead of
its own 224; ``--scratch`` trains the network from random weights as well.
"""

from __future__ import annotations

import sys

import numpy as np

from bench._real_data import write_results


def main(size: int, *, scratch: bool) -> None:
    """Compare, print the curves and the verdict, and write the figures."""
    from PIL import Image
    from sklearn.datasets import load_digits

    import graft

    digits = load_digits()
    pictures = np.empty(len(digits.images), object)
    pictures[:] = [Image.fromarray((pixels * 15.9).astype(np.uint8)) for pixels in digits.images]
    found = graft.compare(
        pictures,
        digits.target,
        backbone="efficientnet_lite0",
        image_size=size,
        budgets=[5, 10, 20, 50],
        seeds=3,
        techniques=["raw-input", "feature-extraction", *(["from-scratch"] if scratch else [])],
    )
    print(f"digits, 8 x 8, EfficientNet-Lite0 at {size} pixels, 3 seeds: accuracy in %")
    for one in found.summary:
        score = one["score"]
        print(
            f"{one['technique']:20} {one['budget']:4} per class  {100 * score['value']:5.1f}  "
            f"({100 * score['low']:.1f} to {100 * score['high']:.1f})  {one['seconds']:.2f} s"
        )
    print(found.verdict.text)
    figures = {"summary": list(found.summary), "verdict": found.verdict.to_dict()}
    write_results("does_not_pay", {"pixels": size, "versions": dict(found.versions), **figures})


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word.isdigit()]
    main(int(words[0]) if words else 224, scratch="--scratch" in sys.argv)
