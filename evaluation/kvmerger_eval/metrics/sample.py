"""From a metric of one prediction and one answer to a metric of a sample, which may have several answers."""


class BadSample(Exception):
    """A sample that its metric cannot score: the data are wrong, whatever the model said."""


def best(pair_score, with_classes=False):
    """The best score over the answers. pair_score: prediction, answer [, all classes] -> float."""

    def score(sample):
        more = (_classes(sample),) if with_classes else ()
        return max(pair_score(sample.prediction, answer, *more) for answer in sample.answers)

    return score


def mean_of_answers(pair_score):
    """The mean over the answers, each of which should be in the prediction."""

    def score(sample):
        return sum(pair_score(sample.prediction, answer) for answer in sample.answers) / len(sample.answers)

    return score


def _classes(sample):
    if not sample.all_classes:
        raise BadSample("the field 'all_classes' is empty, this metric needs the names of all classes")
    return sample.all_classes
