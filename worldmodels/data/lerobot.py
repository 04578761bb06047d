"""LeRobot's datasets on disk, of versions 2 and 3 (huggingface.co/docs/lerobot, "LeRobotDataset v3.0").

    meta/info.json       version, pictures per second, and which features there are; a camera is a "video" or an "image"
    data/*/*.parquet     a row for each frame: action, episode_index, frame_index, ...; images of an "image" camera
    videos/              version 2: chunk-000/CAMERA/episode_000000.mp4, an episode each
                         version 3: CAMERA/chunk-000/file-000.mp4, several end to end
    meta/episodes/*/*.parquet    version 3: in which file an episode's frames lie, and from which second on

A row holds what was seen, and what was then done. Nothing tells whether an episode ended because the world did:
`next.done` is true of every last frame, so it counts only if a person says so.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import imageio_ffmpeg
import numpy as np

from worldmodels.core import files, schema
from worldmodels.core.errors import UserError
from worldmodels.data.recorded import Recording, Small, in_portions, unpacked

FILE = "meta/info.json"
KEYS = {"action": "action", "reward": "next.reward"}
HOLDS = schema.fields(
    _others=schema.anything,
    codebase_version=schema.text(100),
    fps=schema.number(0.001, 10_000),
    features=schema.named(schema.fields(_others=schema.anything, dtype=schema.text(100))),
)


class Source(NamedTuple):
    """A dataset, and the one of its cameras that is taken."""

    root: Path
    version: int
    fps: float
    chunk: int  # episodes in a folder of version 2
    camera: str
    filmed: bool  # its pictures are in videos, not in the tables


class Take(NamedTuple):
    """Where an episode is filmed."""

    video: Path
    start: float  # seconds


def lerobot(file: Path, raw: FileIO, typed: Mapping[str, str], small: Small) -> Iterator[Recording]:
    """The episodes of a LeRobot dataset, whose meta/info.json `file` is."""
    source = _source(file, typed)
    keys = KEYS | {name: key for name, key in typed.items() if name != "obs"}
    tables = sorted(source.root.glob("data/*/*.parquet"))
    if not tables:
        raise UserError(f"{source.root} holds no data/*/*.parquet")
    placed = _placed(source) if source.version == 3 and source.filmed else {}
    for path in tables:
        table = _Table(path)
        for name, key in keys.items():
            if key not in table.columns and (name == "action" or name in typed):
                raise UserError(f"{path} holds no {key}, but {', '.join(table.columns)}: --keys {name}=...")
        read = {name: table.numbers(key) for name, key in keys.items() if key in table.columns}
        for episode, rows in table.episodes():
            parts = {name: functools.partial(values.__getitem__, rows) for name, values in read.items()}
            if source.filmed:
                take = _take(source, placed, episode)
                pictures = functools.partial(_filmed, take, rows.stop - rows.start, source.fps, small)
            else:
                pictures = functools.partial(table.pictures, source.camera, rows, small)
            yield Recording(f"{source.root}: episode {episode}", {"obs": pictures, **parts})


def _source(file: Path, typed: Mapping[str, str]) -> Source:
    info = schema.read(file, HOLDS)
    version = info["codebase_version"].removeprefix("v").split(".")[0]
    if version not in ("2", "3"):
        raise UserError(f"{file}: LeRobot's version {info['codebase_version']} is not read; versions 2 and 3 are")
    kinds = {name: about["dtype"] for name, about in info["features"].items()}
    cameras = [name for name, kind in kinds.items() if kind in ("video", "image")]
    camera = typed.get("obs") or (cameras[0] if len(cameras) == 1 else "")
    if camera not in cameras:
        known = ", ".join(cameras) or "none"
        raise UserError(f"{file}: its cameras are {known}; say which to take: --keys obs=CAMERA")
    if "/" in camera or camera in (".", ".."):
        raise UserError(f"{file}: {camera} is no name of a camera")
    chunk = info.get("chunks_size", 1000)
    if not isinstance(chunk, int) or chunk < 1:
        raise UserError(f"{file}: chunks_size is {chunk!r}; a whole number from 1 on is needed")
    return Source(file.parents[1], int(version), info["fps"], chunk, camera, kinds[camera] == "video")


def _take(source: Source, placed: dict[int, Take], episode: int) -> Take:
    """Where an episode is filmed: by its number, or in version 3 where it was `placed`."""
    if source.version == 2:
        folder = source.root / f"videos/chunk-{episode // source.chunk:03d}" / source.camera
        return Take(folder / f"episode_{episode:06d}.mp4", 0.0)
    if episode not in placed:
        raise UserError(f"{source.root}/meta/episodes does not tell where episode {episode} is filmed")
    return placed[episode]


def _placed(source: Source) -> dict[int, Take]:
    """Where version 3 has the film of each episode."""
    about = f"videos/{source.camera}"
    wanted = ("episode_index", *(f"{about}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")))
    found = dict[int, Take]()
    for path in sorted(source.root.glob("meta/episodes/*/*.parquet")):
        table = _Table(path)
        for episode, chunk, number, start in zip(*(table.numbers(name) for name in wanted), strict=True):
            video = source.root / about / f"chunk-{int(chunk):03d}" / f"file-{int(number):03d}.mp4"
            found[int(episode)] = Take(video, float(start))
    return found


class _Table:
    """A .parquet file. Raises UserError naming it, if it is none or lacks what is asked for."""

    def __init__(self, path: Path) -> None:
        try:
            from pyarrow import parquet  # late: only those who take such datasets need it
        except ModuleNotFoundError as error:
            needed = "LeRobot's tables need it: pip install 'worldmodels[recordings]'"
            raise UserError(f"there is no {error.name}; {needed}") from error
        self._path = path
        self._read = parquet.read_table
        with self._opened() as raw:
            self.columns = list(parquet.read_schema(raw).names)
        self._pictures = functools.cache(self._column)  # for as long as the table is there

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers, (N,), or of as many in each row, (N, n)."""
        column = self._column(name).combine_chunks()
        rows = len(column)
        flat = column
        while hasattr(flat, "flatten") and hasattr(flat.type, "value_type"):
            flat = flat.flatten()
        numbers: np.ndarray = flat.to_numpy(zero_copy_only=False)
        if numbers.dtype.kind not in "buif" or (rows and len(numbers) % rows):
            raise UserError(f"{self._path}: {name} holds {column.type}; as many numbers in each row are needed")
        return numbers if flat is column else numbers.reshape(rows, -1)

    def pictures(self, name: str, rows: slice, small: Small) -> np.ndarray:
        """Observations of those rows of a column of images."""
        packed = self._pictures(name)[rows.start : rows.stop].to_pylist()
        if not all(isinstance(one, dict) and isinstance(one.get("bytes"), bytes) for one in packed):
            raise UserError(f"{self._path}: {name} does not hold its images itself, which are needed")
        return unpacked([one["bytes"] for one in packed], small)

    def episodes(self) -> Iterator[tuple[int, slice]]:
        """The number of each episode, and its rows."""
        number = self.numbers("episode_index")
        frame = self.numbers("frame_index")
        cuts = np.flatnonzero(np.diff(number)) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(number)], strict=True):
            if not np.array_equal(frame[start:stop], np.arange(stop - start)):
                raise UserError(f"{self._path}: the frames of episode {number[start]} are not all there, in order")
            yield int(number[start]), slice(int(start), int(stop))

    def _column(self, name: str) -> Any:
        if name not in self.columns:
            raise UserError(f"{self._path} holds no {name}")
        with self._opened() as raw:
            return self._read(raw, columns=[name]).column(0)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[FileIO]:
        try:
            with files.opened(self._path) as raw:
                yield raw
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"{self._path} cannot be read ({error})") from error


def _filmed(take: Take, count: int, fps: float, small: Small) -> np.ndarray:
    """Observations of `count` frames of a video."""
    with files.opened(take.video):
        pass  # it is there, and a file
    # half a frame before the first one that is wanted; what ffmpeg would guess from a file's content is told, for some
    # formats that it knows lead elsewhere
    seek = ["-ss", f"{take.start - 0.5 / fps:.6f}"] if take.start > 0 else []
    wanted = ["-fps_mode", "passthrough", "-frames:v", str(count)]
    frames = imageio_ffmpeg.read_frames(f"file:{take.video}", input_params=["-f", "mov", *seek], output_params=wanted)
    try:
        with contextlib.closing(frames):
            width, height = next(frames)["size"]
            shape = (height, width, 3)
            seen = in_portions((np.frombuffer(frame, np.uint8).reshape(shape) for frame in frames), small)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{take.video} cannot be read as a video; replace it") from error
    if len(seen) != count:
        raise UserError(f"{take.video} ends after {len(seen)} of {count} frames from second {take.start:g} on")
    return seen
