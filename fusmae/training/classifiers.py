"""The classifier of a published finetune checkpoint."""

from fusmae.models.heads import Classifier, ClassifierHead, readout_dim
from fusmae.training.build import build_encoder
from fusmae.training.checkpoint import Checkpoint, load_weights


def finetuned_classifier(checkpoint: Checkpoint) -> Classifier:
    """The classifier of a finetune checkpoint, in eval mode."""
    architecture = checkpoint.architecture
    encoder = build_encoder(architecture)
    head = ClassifierHead(readout_dim(encoder, architecture["readout"]), architecture["num_classes"])
    model = Classifier(encoder, architecture["readout"], head)
    load_weights(model, checkpoint.weights, "the finetune checkpoint")
    return model.eval()
