"""Who speaks in the spoken world. Four sets of espeak-ng voices that share no member.

USER asks in training, UNSEEN asks only in tests, REPLY answers (exactly four, told to nobody), REFEREE is heard only by
the recogniser that judges. Every name is an English voice with a variant; LOW and HIGH sort them for captions.
"""


def _english(names: str) -> tuple[str, ...]:
    return tuple(f"en-us+{name}" for name in names.split())


USER_LOW = _english(
    "m1 m2 m3 m4 m5 m6 Andy Denis Diogo Gene2 Lee Michael Mike Reed edward ian john paul victor quincy"
)
USER_HIGH = _english("f1 f4 f5 Alicia Annie belinda grandma steph anikaRobot shelby")
USER_OTHER = _english(  # in training too, but sorted neither as low nor as high
    "AnxiousAndy RicishayMax UniRobot benjamin edward2 grandpa iven2 iven3 klatt2 klatt3 michel pedro steph2 steph3 zac"
)
USER = USER_LOW + USER_HIGH + USER_OTHER
UNSEEN_LOW = _english("m7 Alex adam travis")
UNSEEN_HIGH = _english("f3 aunty linda")
UNSEEN = UNSEEN_LOW + UNSEEN_HIGH
REPLY = _english("m8 rob f2 anika")  # about 80, 140, 190 and 270 Hz: nobody takes one for another
REFEREE = _english(
    "Gene Hugo Henrique Marco Mario Jacky Storm Nguyen antonio boris david ed gustave iven kaukovalta klatt "
    "marcelo max miguel norbert pablo robert sandro Andrea mike2 Tweaky announcer caleb"
)
