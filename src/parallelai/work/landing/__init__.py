"""Landing: branches become part of the target in order, behind the gates."""

from parallelai.work.landing.lander import Lander
from parallelai.work.landing.queue import LandingQueue
from parallelai.work.landing.target import Standing, take_over
from parallelai.work.landing.undo import undo

__all__ = ["Lander", "LandingQueue", "Standing", "take_over", "undo"]
