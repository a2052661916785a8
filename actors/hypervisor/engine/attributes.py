"""A guest's attributes in its definition: an element of NovaCron's own in libvirt's ``<metadata>``."""

import re
from xml.etree import ElementTree as ET

from actors.errors import BodyInvalid
from actors.hypervisor.messages import NO_ATTRIBUTES, Attributes

NAMESPACE = "https://novacron.dev/xmlns/placement/1"
PREFIX = "novacron"
WORDS_MAX = 32
ET.register_namespace(PREFIX, NAMESPACE)
_TAG = f"{{{NAMESPACE}}}placement"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LISTS = ("sites", "together", "apart", "near")


def checked(attributes: Attributes) -> Attributes:
    """The same with its words in order, each once.

    Raises:
        BodyInvalid: a word that is none, too many of them, or a group that is to be together and apart.
    """
    found = {kind: tuple(sorted(set(getattr(attributes, kind)))) for kind in _LISTS}
    tenant = (attributes.tenant,) if attributes.tenant else ()
    for kind, words in {"tenant": tenant, **found}.items():
        if len(words) > WORDS_MAX:
            raise BodyInvalid(detail=f"{kind} has {len(words)} words, at most {WORDS_MAX} are taken")
        for word in words:
            if not _WORD.fullmatch(word):
                raise BodyInvalid(
                    detail=f"{kind}: {word[:70]!r} is not up to 63 letters, digits, '.', '_' or '-', the first no sign"
                )
    if both := sorted(set(found["together"]) & set(found["apart"])):
        raise BodyInvalid(detail=f"a guest of group {both[0]} can't be both together with it and apart from it")
    return Attributes(tenant=attributes.tenant, **found)


def attributes_of(domain: ET.Element) -> Attributes:
    """The attributes in the definition `domain`, `NO_ATTRIBUTES` where it has none.

    Raises:
        BodyInvalid: they can't be read.
    """
    element = domain.find(f"metadata/{_TAG}")
    if element is None:
        return NO_ATTRIBUTES
    return checked(
        Attributes(tenant=element.get("tenant", ""), **{kind: tuple(element.get(kind, "").split()) for kind in _LISTS})
    )


def element_text(attributes: Attributes) -> str:
    """The element for libvirt's ``setMetadata``, which adds the namespace itself."""
    return ET.tostring(ET.Element("placement", _filled(attributes)), encoding="unicode")


def with_attributes(domain: ET.Element, attributes: Attributes) -> str:
    """The definition `domain` with these attributes in the place of its own."""
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(domain, "metadata")
    for old in metadata.findall(_TAG):
        metadata.remove(old)
    ET.SubElement(metadata, _TAG, _filled(attributes))
    return ET.tostring(domain, encoding="unicode")


def _filled(attributes: Attributes) -> dict[str, str]:
    words = {kind: " ".join(getattr(attributes, kind)) for kind in _LISTS}
    return {kind: text for kind, text in {"tenant": attributes.tenant, **words}.items() if text}
