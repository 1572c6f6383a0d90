"""Train the network of `emprune demo` and write it, with its test set, to digits.safetensors.

    pip install numpy==2.4.6 scikit-learn==1.9.1
    python train.py

A multilayer perceptron (64 -> 128 -> 64 -> 10, ReLU) learns scikit-learn's 1797 handwritten digits of 8 x 8 pixels.
It is trained once, with an ordinary recipe (Adam, decoupled weight decay, cosine schedule), and knows nothing of the
pruning that comes afterwards.
"""

import json
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 0
LAYERS = [64, 128, 64, 10]
TEST_SHARE = 0.25
EPOCHS = 100
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.1  # per unit of learning rate; weights only, as biases do not overfit
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def new_network(rng):
    """He initialisation: weights [out, in] as in PyTorch, biases zero. In f64, so that the f32 result hardly depends on
    the order in which a BLAS adds."""
    network = {}
    for i, (inputs, outputs) in enumerate(zip(LAYERS, LAYERS[1:]), start=1):
        network[f"fc{i}.weight"] = rng.normal(0.0, np.sqrt(2.0 / inputs), (outputs, inputs))
        network[f"fc{i}.bias"] = np.zeros(outputs)
    return network


def forward(network, x):
    """The input of every layer, and the logits last."""
    activations = [x]
    for i in range(1, len(LAYERS)):
        x = x @ network[f"fc{i}.weight"].T + network[f"fc{i}.bias"]
        if i < len(LAYERS) - 1:
            x = np.maximum(x, 0)
        activations.append(x)
    return activations


def gradients(network, x, labels):
    """Of the mean cross-entropy of one batch."""
    activations = forward(network, x)
    logits = activations[-1]
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    delta = (softmax - np.eye(LAYERS[-1])[labels]) / len(x)
    result = {}
    for i in range(len(LAYERS) - 1, 0, -1):
        layer_input = activations[i - 1]
        result[f"fc{i}.weight"] = delta.T @ layer_input
        result[f"fc{i}.bias"] = delta.sum(axis=0)
        delta = (delta @ network[f"fc{i}.weight"]) * (layer_input > 0)
    return result


def train(images, labels, rng):
    network = new_network(rng)
    mean = {name: np.zeros_like(value) for name, value in network.items()}
    square = {name: np.zeros_like(value) for name, value in network.items()}
    steps = EPOCHS * (len(images) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        for batch in np.array_split(order, len(images) // BATCH):
            step += 1
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            for name, gradient in gradients(network, images[batch], labels[batch]).items():
                mean[name] += (1 - BETA_1) * (gradient - mean[name])
                square[name] += (1 - BETA_2) * (gradient**2 - square[name])
                update = (mean[name] / (1 - BETA_1**step)) / (np.sqrt(square[name] / (1 - BETA_2**step)) + EPSILON)
                decay = WEIGHT_DECAY if name.endswith(".weight") else 0.0
                network[name] -= rate * (update + decay * network[name])
    return {name: value.astype(np.float32) for name, value in network.items()}


def accuracy(network, images, labels):
    return float((forward(network, images)[-1].argmax(axis=1) == labels).mean())


def write_safetensors(path, tensors, metadata):
    """Eight bytes of header length, the header as JSON (padded to a multiple of eight), the data in the same order."""
    dtypes = {"float32": ("F32", "<f4"), "uint8": ("U8", "u1")}
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        dtype, stored = dtypes[tensor.dtype.name]
        encoded = tensor.astype(stored).tobytes()
        offsets = [len(data), len(data) + len(encoded)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += encoded
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def main():
    pixels, labels = load_digits(return_X_y=True)  # pixels are whole numbers from 0 to 16
    train_pixels, test_pixels, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=TEST_SHARE, stratify=labels, random_state=SEED
    )
    network = train(train_pixels / 16, train_labels, np.random.default_rng(SEED))
    print(f"train accuracy {accuracy(network, train_pixels / 16, train_labels):.4f} on {len(train_labels)} images")
    print(f"test accuracy  {accuracy(network, test_pixels / 16, test_labels):.4f} on {len(test_labels)} images")

    tests = {"test.images": test_pixels.astype(np.uint8), "test.labels": test_labels.astype(np.uint8)}
    source = "UCI ML hand-written digits via scikit-learn (load_digits), CC BY 4.0; trained by cli/demo/train.py"
    path = Path(__file__).with_name("digits.safetensors")
    write_safetensors(path, network | tests, {"format": "pt", "source": source})
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
