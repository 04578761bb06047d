"""What goes on behind one page: a dream, the real environment beside it, and who leads both.

A state machine: requests (messages.py) go in, messages come out. It knows no clock and no socket (seat.py does).
"""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from worldmodels.core.errors import UserError
from worldmodels.core.seeding import integer
from worldmodels.data.rollouts import evenly
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.spaces import FPS
from worldmodels.page.contents import Contents, Pilot, Planning, dials, sample_end
from worldmodels.page.held_out import FIRST, HeldOut
from worldmodels.page.messages import HIDDEN, MEMBER, NEW_WORLDS, OWN_WORLD, PLANNING, SAMPLED, YOU, Message
from worldmodels.page.reality import Past, Reality, past_of, remembered
from worldmodels.page.recording import Recording
from worldmodels.show.films import MAX_FRAMES

THUMBNAILS = 16
OWN = FIRST - 1  # the number of the episode that was just met, before those that are held out


@dataclass
class Life:
    """How it went in one world since it was begun."""

    steps: int = 0
    paid: float = 0.0  # the sum of rewards
    reward: float = 0.0  # of the last step
    end: float = 0.0  # how likely the last step was the end, as M sees it
    over: str = ""  # why it goes no further


class Session:
    """One page's.

    Args:
        contents: what there is to show.
        seed: that all luck comes from.
    """

    def __init__(self, contents: Contents, seed: int) -> None:
        self._contents = contents
        self._seed = seed
        self._dream: Dream | None = None
        if contents.model:
            self._dream = Dream(contents.model, contents.record.tau, sample_end(contents.env.name))
        self._real: Reality | None = None
        self._notes = list[str]() if self._dream else ["this run has no M yet, so there is no dream: run stage 3"]
        try:
            self._real = Reality(contents.env, contents.vision)
        except UserError as error:
            self._notes.append(f"the real environment is not there to be shown: {error}")
        self.running = False
        self.speed = 1.0
        self._who = YOU
        self._pilot: Pilot | Planning | None = None
        self._hand = self._rest()
        self._recording: Recording | None = None
        self._number = 0  # of the episode
        self._dreamt = Life()
        self._lived = Life()
        self._past: Past | None = None  # what this one set out from; None: a beginning
        self._held_out = HeldOut(contents.shards, contents.env.label)
        self._begin()

    @property
    def rate(self) -> float:
        """Steps a second."""
        return (self._real.rate if self._real else FPS) * self.speed

    @property
    def over(self) -> bool:
        """Whether the dream has ended; without a dream, reality."""
        return bool(self._dreamt.over if self._dream else self._lived.over or not self._real)

    def hello(self) -> list[Message]:
        """What a page is told first."""
        height, width = self._real.picture.shape[:2] if self._real else (1, 1)
        head = {
            "env": self._contents.env.label,
            "run": str(self._contents.run),
            "aspect": width / height,
            "dream": self._dream is not None,
            "real": self._real is not None,
            "who": [YOU, *self._contents.controllers, *([PLANNING] if self._contents.plans else [])],
            "films": True,
            "worlds": list(self._worlds()),
            "episodes": self._episodes(),
        }
        return [Message("hello", head | dials(self._contents.env.name, self._action_size)), self._frame(fresh=True)]

    def hear(self, request: dict[str, Any]) -> list[Message]:
        """Does what a page asks for, and says what comes of it. What cannot be is told, and changes nothing."""
        do = getattr(self, f"_{request['do']}_asked")
        try:
            answer: list[Message] = do(**{name: value for name, value in request.items() if name != "do"})
        except UserError as error:
            return [trouble(str(error))]
        return answer

    def tick(self) -> list[Message]:
        """One step of both worlds, and what they look like then."""
        if self.over:
            self.running = False
            return []
        action = self._action()
        if self._dream and not self._dreamt.over:
            self._dream_on(self._dream, action)
        if self._real and not self._lived.over:
            reward, over = self._real.step(action)
            self._lived = Life(self._lived.steps + 1, self._lived.paid + reward, reward, over=over)
        self._done = action
        if self.over:
            self.running = False
        return [self._frame(), *self._filmed()]

    def close(self) -> None:
        """Frees the environment."""
        if self._recording:
            with contextlib.suppress(UserError):  # nobody waits for this film
                self._recording.finished()
        if self._real:
            self._real.close()

    def _dream_on(self, dream: Dream, action: np.ndarray) -> None:
        row = torch.from_numpy(action)[None].to(dream.device)
        dreamt = dream.dreamt(dream.state, row, dream.draw())
        dream.state = dreamt.state
        before = self._dreamt
        reward = float(dreamt.reward)
        self._dreamt = Life(before.steps + 1, before.paid + reward, reward, float(dreamt.end))
        if dreamt.terminated:
            self._dreamt.over = "the chance came up" if dream.sample_end else "M is sure"

    def _action(self) -> np.ndarray:
        """float32 (A,), by whoever acts."""
        if self._pilot and self._dream:
            return self._pilot.act(self._dream.state)
        return self._hand

    # What a page asks for (messages.py: REQUESTS).

    def _act_asked(self, action: list[float]) -> list[Message]:
        if len(action) != self._action_size:
            raise UserError(f"an action has {self._action_size} numbers here, not {len(action)}")
        self._hand = np.array(action, np.float32)
        return []

    def _who_asked(self, name: str) -> list[Message]:
        if name == YOU:
            self._pilot = None
        elif self._contents.model and name in self._contents.controllers:
            self._pilot = Pilot(self._contents.model, self._contents.controllers[name])
        elif self._contents.model and self._contents.plans and name == PLANNING:
            self._pilot = Planning(self._contents.model, self._luck)
        else:
            raise UserError(f"this run has no controller {name}")
        self._who = name
        return [self._frame()]

    def _tau_asked(self, value: float) -> list[Message]:
        if self._dream:
            self._dream.tau = float(value)
        return []

    def _ends_asked(self, value: str) -> list[Message]:
        if self._dream:
            self._dream.sample_end = value == SAMPLED
        return []

    def _world_asked(self, value: str) -> list[Message]:
        worlds = self._worlds()
        if value not in worlds:
            known = ", ".join(worlds)
            raise UserError(f"this M has no world {value!r}, but {known}; others come of --dropout and --members")
        if self._dream:
            self._dream.dropout, self._dream.member = worlds[value]
            self._begin()
        return [self._frame(fresh=True)]

    def _speed_asked(self, value: float) -> list[Message]:
        self.speed = float(value)
        return []

    def _run_asked(self, on: bool) -> list[Message]:
        self.running = on and not self.over
        return [self._frame()]

    def _step_asked(self) -> list[Message]:
        self.running = False
        return self.tick()

    def _begin_asked(self, new: bool) -> list[Message]:
        if new:
            self._number += 1
            self._past = None
        self._begin()
        return [self._frame(fresh=True)]

    def _strip_asked(self, episode: int) -> list[Message]:
        frames = self._frames(episode)
        shown = evenly(len(frames), THUMBNAILS)
        head = {"episode": episode, "length": len(frames), "frames": shown}
        return [Message("strip", head, {str(index): frames[index] for index in shown})]

    def _peek_asked(self, episode: int, frame: int) -> list[Message]:
        frames = self._frames(episode)
        frame = min(frame, len(frames) - 1)
        return [Message("peek", {"episode": episode, "frame": frame}, {"peek": frames[frame]})]

    def _from_asked(self, episode: int, frame: int) -> list[Message]:
        frame = min(frame, len(self._frames(episode)) - 1)
        if episode == OWN:
            assert self._real  # else it has no frames
            self._past = self._real.past(frame)
        else:
            self._past = past_of(self._held_out.episode(episode), frame)
        self._begin()
        return [self._frame(fresh=True)]

    def _film_asked(self, on: bool) -> list[Message]:
        if on and not self._recording:
            self._recording = Recording(self._real.rate if self._real else FPS)
        return [self._frame()] if on else self._film()

    # How an episode begins.

    def _begin(self) -> None:
        """Both worlds as this episode begins; with the same luck each time."""
        luck = self._luck
        if isinstance(self._pilot, Planning) and self._contents.model:  # what was planned is of another episode
            self._pilot = Planning(self._contents.model, luck)
        self._dreamt = Life()
        self._lived = Life()
        self._done = self._rest()
        self._shown: dict[str, np.ndarray] = {}
        if self._past is None:
            self._begin_anew(luck)
        else:
            self._begin_from(self._past, luck)

    @property
    def _luck(self) -> int:
        """The seed of this episode."""
        return integer(self._seed, "play", self._number)

    def _begin_anew(self, luck: int) -> None:
        if self._real:
            try:
                self._real.begin(luck)
            except UserError as error:  # it will not do so later, either
                self._notes.append(f"the real environment is not there to be shown: {error}")
                self._real.close()
                self._real = None
        if self._dream and self._real:  # one beginning for both
            self._dream.begin_from(remembered(self._dream.model, self._real.past(0)), [luck])
        elif self._dream:
            self._dream.begin([luck])

    def _begin_from(self, past: Past, luck: int) -> None:
        steps = len(past.action)
        if self._dream:
            self._dream.begin_from(remembered(self._dream.model, past), [luck])
            self._dreamt.steps = steps
        if self._real:
            try:
                self._lived = Life(steps, sum(self._real.lead_to(past)))
            except UserError as error:
                self._lived.over = str(error)

    def _worlds(self) -> dict[str, tuple[float, int | None]]:
        """What worlds can be dreamt in: which share of z and h is hidden there, and which member's they are."""
        model = self._contents.model
        worlds: dict[str, tuple[float, int | None]] = {OWN_WORLD: (0.0, None)}
        if model and model.worlds:
            worlds[NEW_WORLDS] = (HIDDEN, None)
        if model and model.members > 1:
            worlds |= {f"{MEMBER} {number + 1}": (0.0, number) for number in range(model.members)}
        return worlds

    # What there is to set out from.

    def _episodes(self) -> list[dict[str, Any]]:
        own = [{"number": OWN, "name": "what just happened"}] if self._real else []
        return own + self._held_out.listed()

    def _frames(self, episode: int) -> Sequence[np.ndarray]:
        """What was seen in an episode. Raises UserError if there is none of that number."""
        if episode == OWN and self._real:
            return self._real.frames
        return list(self._held_out.episode(episode).obs)

    # How it looks.

    def _frame(self, fresh: bool = False) -> Message:
        """Both worlds as they are. `fresh`: nothing before belongs to it."""
        pictures = self._pictures()
        head = {
            "fresh": fresh,
            "notes": self._notes,
            "running": self.running,
            "over": self.over,
            "who": self._who,
            "action": self._done.tolist(),
            "dream": asdict(self._dreamt) if self._dream else None,
            "real": asdict(self._lived) if self._real else None,
            "filmed": self._recording.length if self._recording else None,
        }
        return Message("frame", head, pictures)

    def _pictures(self) -> dict[str, np.ndarray]:
        """Of a world that is over the last ones, which are not made again."""
        if self._dream and not ("dream" in self._shown and self._dreamt.over):
            self._shown["dream"] = self._dream.pictures()[0].cpu().numpy()
        if self._real and not ("real" in self._shown and self._lived.over):
            self._shown |= {"real": self._real.picture, "seen": self._real.seen()}
        return dict(self._shown)

    def _filmed(self) -> list[Message]:
        """Films what is shown; the film itself, once it is as long as films are."""
        if not self._recording:
            return []
        tau = f"the dream, tau {self._dream.tau:g}, step {self._dreamt.steps}" if self._dream else ""
        labels = {"dream": tau, "real": f"the game, step {self._lived.steps}", "seen": "what V makes of it"}
        try:
            self._recording.add({labels[name]: picture for name, picture in self._shown.items()}, tau)
        except UserError as error:
            self._recording = None
            return [trouble(str(error))]
        return self._film() if self._recording.length >= MAX_FRAMES else []

    def _film(self) -> list[Message]:
        recording = self._recording
        self._recording = None
        return [Message("film", {}, film=recording.finished()), self._frame()] if recording else []

    # Whose hand it is.

    @property
    def _action_size(self) -> int:
        if self._contents.model:
            return self._contents.model.action_size
        return self._real.action_size if self._real else 1

    def _rest(self) -> np.ndarray:
        """float32 (A,), the action of a hand that holds no key."""
        return np.array(self._contents.record.rest_of(self._action_size), np.float32)


def trouble(text: str) -> Message:
    """Something that a person is to be told."""
    return Message("trouble", {"text": text})
