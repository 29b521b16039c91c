"""The objective under autocast against upstream in float32: losses and gradients (goldens/loss).

The network's output is rounded to 16 bits, as autocast would have it, and the decoder computes in them; losses and
recogniser stay in float32.  Measured, the worst of all cases: in bfloat16 the OCR term is off by 0.4%, CTC by 0.8%,
in float16 by 0.06% and 0.1%; the least cosine of the gradient is .93 and .987 through the auto-encoder of random
weights, .997 and .9999 elsewhere.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytext_lib.losses import AnyText2Objective
from tests.golden.cases import load
from tests.golden.closeness import assert_close
from tests.golden.test_loss import CASES, PREDICTION_TYPE, decoder, lines_of, right

LIMITS = {torch.bfloat16: (0.015, 0.9), torch.float16: (0.002, 0.98)}  # relative error of a term, cosine


@pytest.mark.parametrize("dtype", LIMITS, ids=["bfloat16", "float16"])
@pytest.mark.parametrize("path", CASES)
def test_terms_and_gradient_under_autocast(path, dtype, recognizer, alphas_cumprod):
    case, meta = load(path)
    output = torch.from_numpy(case["model_output"]).to(dtype).requires_grad_(True)
    objective = AnyText2Objective(
        recognizer, alphas_cumprod, decoder(case, meta), PREDICTION_TYPE[meta["parameterization"]], meta["loss_alpha"],
        meta["loss_beta"], meta["latin_weight"], meta["with_step_weight"],
    )
    images = torch.from_numpy(case["img_u8"]).permute(0, 3, 1, 2).float() / 127.5 - 1
    invalid = torch.from_numpy(np.unpackbits(case["inv_mask_packed"], axis=-1)).float()[:, None]
    with torch.autocast("cpu", dtype=dtype):
        terms = objective(output, torch.from_numpy(case["x_start"]), torch.from_numpy(case["noise"]),
                          torch.from_numpy(case["t"]), images, lines_of(case, meta), invalid)
    scale = 2.0**16  # as the scaler of gradients does
    (gradient,) = torch.autograd.grad(terms.loss * scale, output)
    most, least = LIMITS[dtype]
    for name in ("sim", "ocr", "ctc", "loss"):
        wanted = float(right(case, name))
        if wanted == wanted and wanted != 0:  # upstream has NaN for a term that is switched off
            assert_close(float(terms.log("t")[f"t/{name}"]), wanted, rtol=most, what=name)
    found = gradient.flatten()[torch.from_numpy(case["grad_idx"])].float()
    wanted = torch.from_numpy(case.get("fixed_grad_vals", case["grad_vals"])).float()
    assert torch.cosine_similarity(found, wanted, dim=0) > least
