"""Classifiers from published checkpoints of probe and finetune."""

from fusmae.models.heads import Classifier, ClassifierHead, ProbeHead, readout_dim
from fusmae.training.build import build_encoder, part_of
from fusmae.training.checkpoint import Checkpoint, load_weights


def finetuned_classifier(checkpoint: Checkpoint) -> Classifier:
    """The classifier of a finetune checkpoint, in eval mode."""
    architecture = checkpoint.architecture
    encoder = build_encoder(architecture)
    head = ClassifierHead(readout_dim(encoder, architecture["readout"]), architecture["num_classes"])
    model = Classifier(encoder, architecture["readout"], head)
    load_weights(model, checkpoint.weights, "the finetune checkpoint")
    return model.eval()


def probed_classifier(checkpoint: Checkpoint, setting: str) -> Classifier:
    """The classifier of a probe checkpoint for one modality setting (`s1+s2`), in eval mode."""
    architecture = checkpoint.architecture
    encoder = build_encoder(architecture)
    load_weights(encoder, part_of(checkpoint.weights, "encoder."), "the probe checkpoint")
    head = ProbeHead(readout_dim(encoder, architecture["readout"]), architecture["num_classes"])
    load_weights(head, part_of(checkpoint.weights, f"heads.{setting}."), f"the probe checkpoint, head {setting}")
    return Classifier(encoder, architecture["readout"], head).eval()
