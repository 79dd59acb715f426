"""Items of three reporting checklists in our own short words, and the section of a report that answers each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One item: what it asks, and where and how far a run answers it."""

    number: int  # in its source
    asks: str
    answer: str = ""  # empty: only the authors can say
    page: str = "index"  # page of the report
    heading: str = ""  # its section there; of the first page the section's name in the address
    partly: bool = False  # the rest is the authors'
    needs: tuple[str, ...] = ()  # tables without which the section says nothing


COHORT, TRAINING, TEST, AGREEMENT = "01_cohort", "02_training", "03_test_set", "04_agreement"
CASES, SPLITS = "Cases", "Splits"
VOLUMES = "07_volumes"  # which has these sections of 04
OF_VOLUMES = (
    "Cases and volumes",
    "Bland-Altman",
    "Which limits to quote",
    "Agreement table",
    "Margin",
    "Volume classes",
    "Planning the next study",
)

CLAIM = (
    Item(1, "title names the study as one of artificial intelligence, and the kind"),
    Item(2, "summary of design, methods, results and conclusions"),
    Item(3, "background, and what the method is meant for"),
    Item(4, "aims and hypotheses", "the question of the study", "index", "answer", partly=True),
    Item(5, "prospective or retrospective"),
    Item(6, "goal of the study"),
    Item(7, "sources of the data", "named with the cases", COHORT, CASES),
    Item(8, "who was eligible, where and when"),
    Item(9, "what was done to the images", "slices at native spacing", COHORT, CASES),
    Item(10, "how cases were chosen from the data", "each exclusion with its reason", COHORT, CASES),
    Item(11, "how patients' identity was removed", "as the cohort states", COHORT, CASES),
    Item(12, "what was done about missing data", "left out with a reason", COHORT, CASES),
    Item(
        13,
        "how the images were acquired",
        "slice and pixel spacing, slices, gantry tilt; scanners and dose are the authors' to state",
        COHORT,
        "Cohort table",
        partly=True,
    ),
    Item(14, "what the reference standard is", "outlines of the slices", COHORT, "Scans with reference outlines"),
    Item(15, "why that reference standard"),
    Item(16, "who drew it, and how experienced"),
    Item(17, "how the test cases were annotated"),
    Item(18, "how far readers agree", "second outline", TEST, "Dice by hemorrhage type"),
    Item(19, "how cases were assigned to splits", "rule and seed", COHORT, SPLITS),
    Item(20, "at which level splits are apart", "patients", COHORT, SPLITS),
    Item(
        21,
        "intended number of test cases and why",
        "precision by number of cases; the number intended is the authors' to state",
        AGREEMENT,
        "Planning the next study",
        partly=True,
        needs=("planning",),
    ),
    Item(
        22,
        "the model in full",
        "input and number of parameters; layers are in ich.model and model/settings.json",
        TRAINING,
        "Network and recipe",
        partly=True,
    ),
    Item(23, "software and versions", "every package with its version", "index", "more"),
    Item(
        24,
        "how parameters started",
        "random from training_seed, or start_from's weights: which of both is said",
        TRAINING,
        "Network and recipe",
    ),
    Item(25, "how it was trained", "loss, optimizer, schedule, augmentation", TRAINING, "Network and recipe"),
    Item(26, "how the final model was chosen", "best validation, averaged over recent steps", TRAINING, "Training"),
    Item(27, "ensembles", "none: one network", TRAINING, "Training"),
    Item(
        28,
        "measures of performance",
        "Dice, surface distances, misses, false alarms",
        TEST,
        "By label",
        needs=("by_label",),
    ),
    Item(29, "significance and uncertainty", "exact and bootstrap intervals", AGREEMENT, "Bland-Altman"),
    Item(
        30,
        "robustness and sensitivity",
        "limits on other scales, error by volume and shape; other scanners are not tested",
        AGREEMENT,
        "Limits that follow the volume",
        partly=True,
    ),
    Item(31, "explainability"),
    Item(
        32,
        "test on internal data",
        "held-out patients",
        TEST,
        "Dice by hemorrhage type",
        needs=("dice_by_type", "training"),  # a network, or masks, of elsewhere have another training set
    ),
    Item(33, "test on external data"),
    Item(34, "registration"),
    Item(35, "numbers included and excluded", "flow of cases", "index", "flow", needs=("cohort", "splits")),
    Item(
        36,
        "characteristics of the cases in each split",
        "Table 1, as far as the data say age and sex",
        "index",
        "table-1",
        True,
        ("table1_by_split",),
    ),
    Item(37, "performance with uncertainty", "Dice by type", "index", "dice", needs=("dice_by_type",)),
    Item(38, "estimates and their precision", "limits of agreement", "index", "agreement", needs=("agreement",)),
    Item(39, "analysis of failures", "worst and middle cases", TEST, "Worst and middle cases", needs=("metrics",)),
    Item(40, "limitations", "those that the run knows of", "index", "limits", partly=True, needs=("agreement",)),
    Item(41, "what it means for practice"),
    Item(42, "protocol or technical details", "notebooks with every parameter", "index", "more", partly=True),
    Item(43, "whether code, model and data can be had", "version of the code", "index", "more", partly=True),
    Item(44, "funding and the funders' role"),
)

GRRAS = (
    Item(1, "title or abstract says that agreement was studied"),
    Item(2, "the measuring method", "rule for ABC/2, word for word", AGREEMENT, "The rule for ABC/2"),
    Item(3, "which subjects are meant", "cases and what they have", "index", "table-1", True, ("table1_by_split",)),
    Item(4, "which raters are meant"),
    Item(
        5,
        "what is known already, and why this study",
        "published results beside the run; the reason is the authors'",
        AGREEMENT,
        "Beside published results",
        True,
        ("published_anchors",),
    ),
    Item(
        6,
        "how the number of subjects, raters and repeats was chosen",
        "precision by number of cases",
        AGREEMENT,
        "Planning the next study",
        True,
        ("planning",),
    ),
    Item(7, "how subjects and raters were sampled", "sources and exclusions", COHORT, CASES, partly=True),
    Item(8, "how measurements were made, and what raters knew"),
    Item(9, "whether ratings were independent"),
    Item(10, "statistical analysis", "each statistic with its source", AGREEMENT, "Bland-Altman"),
    Item(11, "numbers of subjects, raters and repeats", "n of each table", "index", "agreement", needs=("agreement",)),
    Item(12, "what subjects and raters are like", "Table 1", "index", "table-1", True, ("table1_by_split",)),
    Item(
        13,
        "agreement with its uncertainty",
        "bias, limits, CCC and shares with intervals",
        AGREEMENT,
        "Agreement table",
    ),
    Item(14, "what the results mean in practice", "volume classes of the clinic", AGREEMENT, "Volume classes", True),
    Item(15, "detailed results", "every table and figure as a file", "index", "more"),
)

BLAND_ALTMAN = (
    Item(
        1,
        "acceptable limits, fixed beforehand",
        "margin_ml, a parameter of the run, and whether it is kept; its reason is the authors' to state",
        AGREEMENT,
        "Margin",
        partly=True,
    ),
    Item(2, "structure of the data", "cases and patients of each method", AGREEMENT, "Cases and volumes"),
    Item(3, "repeatability of each method"),
    Item(4, "plot, and look for normality, trend and spread", "plots and tests", AGREEMENT, "Which limits to quote"),
    Item(5, "transformation where needed", "percent, ratio, regression", AGREEMENT, "Limits that follow the volume"),
    Item(6, "bias drawn and in numbers", "bias", AGREEMENT, "Bland-Altman"),
    Item(7, "precision of the bias", "SD and 95 % interval", AGREEMENT, "Agreement table"),
    Item(8, "limits of agreement drawn and in numbers", "limits", AGREEMENT, "Bland-Altman"),
    Item(
        9,
        "intervals of the limits",
        "exact (Carkeet 2015), allowing for several scans of a patient",
        AGREEMENT,
        "Bland-Altman",
    ),
    Item(10, "whether the range of values is wide enough", "volumes by group", AGREEMENT, "Cases and volumes", True),
    Item(
        11,
        "variance between and within subjects, or intervals that heed the structure",
        "limits from an analysis of variance, intervals over patients; lines and kappa take cases as apart",
        AGREEMENT,
        "Agreement table",
        partly=True,
    ),
    Item(12, "software", "packages with versions", "index", "more"),
    Item(13, "assumptions on the distribution", "tested", AGREEMENT, "Which limits to quote"),
    Item(14, "number of cases", "planning", AGREEMENT, "Planning the next study", True, ("planning",)),
    Item(15, "what the x axis shows", "mean of both", AGREEMENT, "Bland-Altman"),
    Item(16, "conflicts of interest"),
)
