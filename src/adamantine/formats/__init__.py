"""Storage formats: how weights and optimizer state lie in memory, apart from any rule.

Every rule computes in float32; a format says how many bytes are kept of what it computed.

- `adamantine.formats.half`: bfloat16 and float16 weights, rounded to nearest or stochastically.
- `adamantine.formats.split`: a float32 master weight in two parts, bfloat16 and a small residual.
- `adamantine.formats.block`: moments in 8 or 4 bits, a scale and a curve for every block of 128.
- `adamantine.formats.words`: the counter-based random words and the dither that rounding takes.

The texts are NumPy code on ``int32`` and ``float32`` arrays. native/{words,codecs,split,block}.hpp are their
twins, bit for bit; torch runs the very same text on its own tensors (`adamantine.rules.rule.bind_module`), on
any device.
"""
