"""Every rule by the class that has it: the cases of the tests that hold an engine against NumPy."""

#: Rule → class and options, of which those that fill a slot at the start are not zero.
CASES = {
    "sgd": ("SGD", {}),
    "heavy_ball": ("SGD", {"momentum": 0.9, "dampening": 0.25}),
    "nesterov": ("SGDW", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop_momentum": ("RMSprop", {"momentum": 0.9}),
    "rmsprop_centered": ("RMSprop", {"centered": True}),
    "rmsprop_centered_momentum": ("RMSprop", {"centered": True, "momentum": 0.9}),
    "adam": ("AdamW", {}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "lion": ("Lion", {}),
    "adam_atan2": ("AdamAtan2", {}),
}
