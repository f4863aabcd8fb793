"""Tagging of photos, from JPEG files to written tags, compared with a plain loop over the same photos in the same run.

    python -m benchmarks.photos [--photos FOLDER] [--tagger NAME --weights FILE --labels FILE]
                                [--rounds 3] [--memory 20000] [--themes 100000]

The plain loop opens, resizes, crops and tags one photo after the other in one process; the network uses all cores.
Without a folder, photos are painted as for the demo shop. With a GPU, the throughput of decoding, transfer and network
is measured separately too, and its tags are compared with the CPU's.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from benchmarks import machine
from jobs.engine.session import spark_session
from recsys.config.pipeline import SourceSettings
from recsys.config.settings import Settings
from recsys.images.settings import MAX_TAGS, ImageSettings, TaggerSettings
from recsys.images.tagging.decoding import decode
from recsys.images.tagging.inference import load_tagger
from recsys.images.tagging.local import photos_below
from recsys.images.tagging.networks import load_network
from recsys.images.tagging.tag_store import OUTPUTS
from recsys.images.tagging.taggers import TaggerFiles, tagger_files
from recsys.images.tagging.tagging import ON_GPU, Worker, best_device, tag_photos
from recsys.images.themes.themes import fit_themes, tag_matrix
from recsys.pipeline.photos import Engine, ProcessEngine, SparkEngine

CORES = os.cpu_count() or 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", help="folder of photos; painted ones by default")
    parser.add_argument("--tagger", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--labels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=0, help="number of photos to tag while printing memory")
    parser.add_argument("--themes", type=int, default=0, help="number of synthetic photos to fit themes to")
    arguments = parser.parse_args()
    print(machine.describe())
    tagger = TaggerSettings(name=arguments.tagger, weights=arguments.weights, labels=arguments.labels)
    settings = ImageSettings(taggers=(tagger,), root="/")
    with tempfile.TemporaryDirectory(prefix="photos-") as folder:
        photos = photos_below([arguments.photos or drawn(Path(folder) / "drawn")])
        compare(photos, settings, arguments.rounds, Path(folder))
        if torch.cuda.is_available():
            gpu_shares(photos, settings)
        if arguments.memory:
            memory(photos, settings, arguments.memory)
    if arguments.themes:
        themes(arguments.themes)


def network_of(settings: ImageSettings) -> TaggerSettings:
    """Return the tagger that is measured."""
    (tagger,) = settings.taggers
    assert isinstance(tagger, TaggerSettings)
    return tagger


def drawn(folder: Path, photos: int = 400) -> str:
    """Paint photos as for the demo shop, and return their folder."""
    from demo_shop.shop import build_shop
    from recsys.config.demo_shop import DemoShopSettings

    build_shop(DemoShopSettings(users=20, days=7, open_sales=20, photos=photos), folder)
    return str(folder / "photos")


def compare(photos: list[str], settings: ImageSettings, rounds: int, folder: Path) -> None:
    """Measure the loop, one process and Spark in turns, and print the median photos per second of each."""
    spark = spark_session(Settings(folder=str(folder / "var"), source=SourceSettings(sql="", raw={})))
    found = tagger_files(network_of(settings))
    network = load_network(found.architecture, len(found.labels), found.weights).eval()
    ways: dict[str, Callable[[Path], None]] = {
        "plain loop": lambda out: plain_loop(photos, network, found, out),
        "one process": lambda out: night(ProcessEngine(), photos, settings, out),
        "Spark": lambda out: night(SparkEngine(spark), photos, settings, out),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            out = Path(tempfile.mkdtemp(dir=folder))
            start = time.perf_counter()
            way(out)
            if number:  # the first round, which loads networks and starts workers, does not count
                rates[name].append(len(photos) / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{network_of(settings).name}, {len(photos)} photos, JPEG to written tags, {best_device()}:")
    for name, rate in medians.items():
        print(f"  {name:<12} {rate:8.1f} photos/s   {rate / medians['plain loop']:5.2f} x the loop", flush=True)


def night(engine: Engine, photos: list[str], settings: ImageSettings, out: Path) -> None:
    """Process photos as a night does if all are new: hash them, tag them, write both."""
    hashes, tags = out / "hashes", out / "tags"
    hashes.mkdir()
    tags.mkdir()
    rows = pa.table({"image_uri": photos, "known_stamp": pa.nulls(len(photos), pa.string())})
    engine.hash_photos(rows, settings, hashes)
    engine.tag_photos(pq.read_table(hashes).select(["image_hash", "image_uri"]), settings, network_of(settings), tags)
    tagged = len(photos) - pq.read_table(tags, columns=["outputs"])["outputs"].null_count
    if tagged < len(photos):
        raise SystemExit(f"photos tagged == {tagged}, must be all {len(photos)}: correct or remove the others")


def rows_of(photos: list[str]) -> pa.Table:
    """Return rows for tagging, without hashes, so that equal photos are all tagged."""
    return pa.table({"image_hash": pa.nulls(len(photos), pa.string()), "image_uri": photos})


def plain_loop(photos: list[str], network: nn.Module, tagger: TaggerFiles, out: Path) -> None:
    """Tag photos by the simplest code."""
    torch.set_num_threads(CORES)
    shape = tagger.preprocessing
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (shape.mean, shape.std))
    found = []
    with torch.inference_mode():
        for number, photo in enumerate(photos):
            with Image.open(photo) as file:
                image = file.convert("RGB")
            scale = shape.resize / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
            left, top = (image.width - shape.crop) // 2, (image.height - shape.crop) // 2
            pixels = np.asarray(image.crop((left, top, left + shape.crop, top + shape.crop)), np.float32) / 255
            inputs = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            inputs = inputs.flip(1) if shape.channels == "BGR" else inputs
            logits, embeddings = network((inputs - mean) / std)
            shares, labels = logits.softmax(1).topk(MAX_TAGS)
            row = {"image_hash": str(number), "outputs": labels[0].tolist(), "probabilities": shares[0].tolist()}
            found.append({**row, "embedding": embeddings[0].numpy()})
    pq.write_table(pa.Table.from_pylist(found, OUTPUTS), out / "photos.parquet")


def gpu_shares(
    photos: list[str], settings: ImageSettings, device: str = "cuda", total: int = 20_000, seconds: float = 10.0
) -> None:
    """Print the throughput of decoding, of the network and of both on a GPU, and how its tags differ from the CPU's."""
    on_gpu, on_cpu = load_tagger(network_of(settings), device), load_tagger(network_of(settings))
    size = ON_GPU * settings.tagging.batch
    pixels = np.stack(decoded(photos[:size]))
    batch = np.concatenate([pixels] * (size // len(pixels) + 1))[:size]
    many = list(islice(repeat_all(photos), total))
    start = time.perf_counter()
    decoded(many)
    decoding = total / (time.perf_counter() - start)
    with_transfer = batches_a_second(lambda: on_gpu.tag(batch), seconds) * size
    inputs = torch.from_numpy(batch).to(device)
    network = batches_a_second(lambda: on_gpu.collect(on_gpu.run(inputs, 5)), seconds) * size
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        ProcessEngine().tag_photos(rows_of(many), settings, network_of(settings), Path(folder))
    whole = len(many) / (time.perf_counter() - start)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    print(f"{name}, batches of {size}: {whole:,.0f} photos/s from JPEG to written tags")
    limits = f"decoding alone on {CORES} cores {decoding:,.0f}, network alone {network:,.0f}"
    print(f"  {limits}, network with transfer {with_transfer:,.0f}")
    gpu, cpu = on_gpu.tag(pixels), on_cpu.tag(pixels)
    same = (gpu.labels[:, 0] == cpu.labels[:, 0]).mean()
    print(f"  same best tag as on the CPU: {same:.2%}; best probability differs by {differs(gpu, cpu):.4f} at most")


def differs(gpu, cpu) -> float:  # type: ignore[no-untyped-def]
    return float(np.abs(gpu.probabilities[:, 0] - cpu.probabilities[:, 0]).max())


def repeat_all(photos: list[str]):  # type: ignore[no-untyped-def]
    return (photo for again in repeat(photos) for photo in again)


def decoded(photos: list[str]) -> list[NDArray[np.uint8]]:
    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(lambda photo: decode(Path(photo).read_bytes(), 256, 224), photos))


def batches_a_second(work: Callable[[], object], seconds: float) -> float:
    work()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        done += 1
    return done / (time.perf_counter() - start)


def memory(photos: list[str], settings: ImageSettings, total: int) -> None:
    """Tag many photos in one process and print its memory meanwhile: it must not grow."""
    rows = rows_of(list(islice(repeat_all(photos), total)))
    network, worker = network_of(settings), Worker(best_device(), CORES)
    batches = tag_photos(rows.to_batches(max_chunksize=256), settings, network, worker)
    done, step = 0, max(1, total // 10)
    for batch in batches:
        before, done = done, done + batch.num_rows
        if done // step > before // step:
            print(f"  {done:>7,} photos: {psutil.Process().memory_info().rss / 1e6:,.0f} MB", flush=True)


def themes(photos: int, tags: int = 365, kinds: int = 40) -> None:
    """Fit 30 themes to synthetic photos, and project photos onto them."""
    rng = np.random.default_rng(0)
    kind_of_tags = rng.dirichlet(np.full(tags, 0.05), kinds)
    mixtures = rng.dirichlet(np.full(kinds, 0.05), photos)
    shares = mixtures @ kind_of_tags * rng.lognormal(0, 0.7, (photos, tags))
    best = np.argsort(-shares, axis=1)[:, :5]
    names = [f"tag {number}" for number in range(tags)]
    start = time.perf_counter()
    matrix = tag_matrix(([names[tag] for tag in row] for row in best), np.take_along_axis(shares, best, 1), names)
    model = fit_themes(matrix, names, 30, as_of=0, tagger_version="benchmark")
    fitted = time.perf_counter()
    model.activations(matrix[:10_000])
    print(
        f"{photos:,} photos x {tags} tags: 30 themes in {fitted - start:.1f} s; "
        f"projection {(time.perf_counter() - fitted) / 10:.3f} ms per photo"
    )


if __name__ == "__main__":
    main()
