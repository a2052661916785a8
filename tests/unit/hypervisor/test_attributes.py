"""Attributes in a definition: they come back as they went in, and what is no word is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BodyInvalid
from actors.hypervisor.engine.attributes import NAMESPACE, checked, element_text, with_attributes
from actors.hypervisor.engine.domain import parse_domain, safe_xml, user_domain
from actors.hypervisor.messages import Attributes

DOMAIN = "<domain><name>web</name><memory>65536</memory>{}</domain>"
word = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
words = st.lists(word, max_size=4).map(tuple)
some = st.builds(
    Attributes,
    tenant=st.just("") | word,
    sites=words,
    near=words,
    together=st.lists(word.map("t-{}".format), max_size=3).map(tuple),
    apart=st.lists(word.map("a-{}".format), max_size=3).map(tuple),
)


@given(some, some)
def test_what_was_written_last_is_read(before, after):
    text = DOMAIN.format("<metadata><x:other xmlns:x='urn:x'/></metadata>")
    for attributes in (before, after):
        text = with_attributes(safe_xml(text), checked(attributes))
    assert parse_domain(text).attributes == checked(after)
    assert "urn:x" in text
    assert user_domain(text, "web", ()).name == "web"


@given(some)
def test_an_element_for_libvirt_reads_the_same(attributes):
    element = element_text(checked(attributes)).replace("<placement", f"<n:placement xmlns:n='{NAMESPACE}'")
    assert parse_domain(DOMAIN.format(f"<metadata>{element}</metadata>")).attributes == checked(attributes)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        (Attributes(tenant="a b"), "tenant: 'a b'"),
        (Attributes(sites=("",)), "sites: ''"),
        (Attributes(near=("x" * 64,)), "near: 'xxx"),
        (Attributes(apart=tuple(f"g{i}" for i in range(33))), "apart has 33 words"),
        (Attributes(apart=("x",), together=("x",)), "group x can't be both"),
    ],
)
def test_bad_words_are_refused(attributes, says):
    with pytest.raises(BodyInvalid, match=says):
        checked(attributes)


def test_a_guest_without_them_has_none():
    assert parse_domain(DOMAIN.format("")).attributes == Attributes()
