"""Results of published studies, printed beside a run. They come from other data and other readers."""

import pandas as pd

PAPER = "Wang et al., Chin J Radiol 2019;53:941"

# Wang 2019: mean Dice on the 162 test cases; only n of the parenchymal cases (100) is stated, the others are 62.
DICE_BY_TYPE = pd.DataFrame(
    {
        "hemorrhage_type": ["parenchymal", "ventricular", "subarachnoid", "mixed"],
        "published_dice": [0.87, 0.85, 0.67, 0.77],
    }
)

# Wang 2019: absolute volume error (ml, mean and SD) in 97 purely parenchymal test cases, by reference volume.
ABSOLUTE_ERROR_ML = pd.DataFrame(
    [
        ("network", "<5", 0.52, 0.54),
        ("network", "5-25", 1.53, 1.22),
        ("network", ">25", 7.93, 8.49),
        ("abc2", "<5", 0.68, 0.60),
        ("abc2", "5-25", 3.16, 2.90),
        ("abc2", ">25", 19.31, 17.23),
    ],
    columns=["method", "volume_group", "published_mean_ml", "published_sd_ml"],
)

# What other studies report; the quantity differs from study to study and is named in each row.
ANCHORS = pd.DataFrame(
    [
        ("Sharrock 2020, DeepBleed", 500, "Dice", 0.914, None, None),
        ("Kok 2022, nnU-Net, TICH-2", 174, "Dice (median)", 0.92, None, None),
        ("Elsheikh 2024", 59, "Dice", 0.86, None, None),
        ("INSTANCE 2022, winner", 70, "Dice", 0.6925, None, None),
        ("INSTANCE 2022, best Dice", 70, "Dice", 0.721, None, None),
        ("Lu 2025, ABC/2", 118, "bias of ABC/2, ml", 4.65, -10.8, 20.2),
        ("Colmer 2026, ABC/2", 300, "mean absolute difference of ABC/2, ml", 10.1, None, None),
        ("Colmer 2026, software", 300, "mean absolute difference of software, ml", 11.2, None, None),
        ("Webb 2015, ABC/2", 4369, "share of ABC/2 within 5 ml", 0.84, None, None),
        ("Webb 2015, ABC/2", 4369, "share of ABC/2 within 20 %", 0.48, None, None),
    ],
    columns=["study", "n", "quantity", "value", "lower", "upper"],
)
