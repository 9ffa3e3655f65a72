"""DataIdentity: what makes images those that a supernet was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nassearch.data.preprocessing import DEFAULT, Preprocessing
from nassearch.errors import DataError

_FIX = "put the images back as they were, say where they lie with --data, or train again"


@dataclass(frozen=True, slots=True)
class DataIdentity:
    """The classes in order, the images, and which of them validate.

    `shape` is (c, h, w); `mean` and `std` are those of the training images. `held_out` are the
    validation images, as indices into all `num_images` sorted as they are read. A checkpoint of
    version 0.1 holds no shape, number, fingerprint or split: these are None. `test_fingerprint` is
    of a test split that is a folder of files; 0.2 does not hold it either, nor a `preprocessing`:
    its images were squashed, and normalised by their own mean and deviation.
    """

    name: str
    class_names: tuple[str, ...]
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int] | None = None
    num_images: int | None = None
    fingerprint: str | None = None
    held_out: tuple[int, ...] | None = None
    test_fingerprint: str | None = None
    preprocessing: Preprocessing = DEFAULT

    @property
    def pixels(self) -> int | None:
        """The width of the images, where it is known."""
        return None if self.shape is None else self.shape[2]

    def to_dict(self) -> dict[str, Any]:
        """A form that checkpoints and JSON hold."""
        fields = asdict(self)
        del fields["preprocessing"]
        lists = {key: list(value) for key, value in fields.items() if isinstance(value, tuple)}
        said = self.preprocessing
        kept = {} if said.is_default else {"preprocessing": said.to_dict()}
        return {**fields, **lists, **kept, "num_classes": len(self.class_names)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "DataIdentity":
        """The identity that `to_dict` wrote, or what version 0.1 wrote of the data."""
        apart = ("num_classes", "preprocessing")
        fields = {key: item for key, item in value.items() if key not in apart}
        lists = {key: tuple(item) for key, item in fields.items() if isinstance(item, list)}
        said = Preprocessing.model_validate(value.get("preprocessing", {}))
        return cls(**{**fields, **lists, "preprocessing": said})

    def check_classes(self, class_names: Sequence[str], *, where: object) -> None:
        """DataError unless these are the classes, in this order."""
        if tuple(class_names) == self.class_names:
            return
        gone = [name for name in self.class_names if name not in class_names]
        new = [name for name in class_names if name not in self.class_names]
        if gone or new:
            parts = [f"'{gone[0]}' is gone"] if gone else []
            parts += [f"'{new[0]}' is new"] if new else []
            difference = " and ".join(parts)
        else:
            difference = "their order is another"
        check_num_classes(len(class_names), len(self.class_names), difference, where=where)
        raise DataError(
            f"its classes are not those the supernet was trained on: {difference}",
            where=where,
            fix=_FIX,
        )

    def check_images(self, num_images: int, fingerprint: str, *, where: object) -> None:
        """DataError unless these are so many images, and the same ones."""
        if self.num_images is not None and num_images != self.num_images:
            change = num_images - self.num_images
            raise DataError(
                f"holds {num_images} images ({abs(change)} {'more' if change > 0 else 'fewer'}"
                f" than the {self.num_images} the supernet was trained with)",
                where=where,
                fix=_FIX,
            )
        if self.fingerprint is not None and fingerprint != self.fingerprint:
            raise DataError(
                "holds other images than the supernet was trained with (their names or sizes)",
                where=where,
                fix=_FIX,
            )

    def check_split(self, held_out: Sequence[int], *, where: object) -> None:
        """DataError unless these are the validation images."""
        if self.held_out is not None and tuple(held_out) != self.held_out:
            raise DataError(
                "validates on other images than the supernet was trained with",
                where=where,
                fix="load it with the seed and val_share of the training",
            )

    def check_preprocessing(self, preprocessing: Preprocessing, *, where: object) -> None:
        """DataError unless images are made what a network takes as they were then."""
        if preprocessing != self.preprocessing:
            raise DataError(
                "are resized or normalised otherwise than the supernet was trained",
                where=where,
                fix=f"load them with preprocessing={self.preprocessing.to_dict()}",
            )

    def check_form(self, other: "DataIdentity", *, where: object) -> None:
        """DataError unless `other` images have the same form and, where that is all that is known
        of these, the same mean and deviation."""
        if self.shape is not None and other.shape != self.shape:
            assert other.shape is not None
            here, then = ("x".join(map(str, reversed(s[1:]))) for s in (other.shape, self.shape))
            raise DataError(
                f"gives images of {here} pixels and {other.in_channels} channels, the supernet was"
                f" trained on {then} and {self.in_channels}",
                where=where,
                fix=f"name the size, imagefolder:PATH@{self.shape[2]}",
            )
        statistics = (other.in_channels, other.mean, other.std)
        if self.fingerprint is None and statistics != (self.in_channels, self.mean, self.std):
            raise DataError(
                "holds other images than the supernet was trained with (their mean or deviation)",
                where=where,
                fix=_FIX,
            )


def check_num_classes(found: int, known: int, difference: str, *, where: object) -> None:
    """DataError unless images are of as many classes as a network tells apart."""
    if found != known:
        raise DataError(
            f"holds {found} classes, the network tells {known} apart ({difference})",
            where=where,
            fix="name the images it was trained on with --data; or give it a new classifier:"
            " train-supernet --from RUN --data IMAGES, or finetune an export on them",
        )
