from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from reposyncd.errors import RootMissingError, UnreadableError, UnstableError, VanishedError
from reposyncd.model import RootIdentity, Skip
from reposyncd.tree.read import Tree, classify
from tests.support import write

LIMIT = 1 << 20
NOBODY = 65534


def test_a_file_is_read_with_its_stat_and_digest(tmp_path: Path) -> None:
    write(tmp_path, {"d/e/a.txt": "text", "d/e/b.txt": "", "c\n": "c"})
    with Tree(str(tmp_path)) as tree:
        raw = tree.read("d/e/a.txt", LIMIT)
        assert raw.data == b"text"
        assert raw.digest == xxhash.xxh3_128_hexdigest(b"text")
        assert raw.stat.inode == (tmp_path / "d/e/a.txt").stat().st_ino
        assert [tree.read(path, LIMIT).data for path in ("d/e/b.txt", "c\n", "d/e/a.txt")] == [b"", b"c", b"text"]


def test_what_is_not_there_has_vanished(tmp_path: Path) -> None:
    write(tmp_path, {"file": "", "d/file": ""})
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    with Tree(str(tmp_path)) as tree:
        for path in ("nothing", "no/thing", "d", "file/inner", "link", "fifo"):
            with pytest.raises((VanishedError, UnreadableError)):
                tree.read(path, LIMIT)
        with pytest.raises(VanishedError):
            tree.read("link", LIMIT)


def test_no_link_leads_out_of_the_tree_at_any_component(tmp_path: Path) -> None:
    write(tmp_path, {"outside/secret": "s", "tree/d/secret": "fine"})
    with Tree(str(tmp_path / "tree")) as tree:
        assert tree.read("d/secret", LIMIT).data == b"fine"
        (tmp_path / "tree/d").rename(tmp_path / "tree/moved")
        (tmp_path / "tree/d").symlink_to(tmp_path / "outside")
        assert tree.read("moved/secret", LIMIT).data == b"fine"
        with pytest.raises(VanishedError):
            tree.read("d/secret", LIMIT)


def test_a_fifo_that_took_the_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with Tree(str(tmp_path)) as tree, pytest.raises(VanishedError, match="not a regular file"):
        tree.read("fifo", LIMIT)


def test_no_path_leads_upwards(tmp_path: Path) -> None:
    write(tmp_path, {"secret": "s", "tree/d/file": ""})
    with Tree(str(tmp_path / "tree")) as tree:
        for path in ("../secret", "d/../../secret", "..", "d/..", str(tmp_path / "secret")):
            with pytest.raises(VanishedError):
                tree.read(path, LIMIT)


def test_a_root_that_cannot_be_opened_is_missing(tmp_path: Path) -> None:
    write(tmp_path, {"file": "", "d/file": ""})
    (tmp_path / "link").symlink_to("d")
    for name in ("nothing", "file", "link"):
        with pytest.raises(RootMissingError, match=name):
            Tree(str(tmp_path / name))


def test_a_file_that_outgrew_the_limit_is_unstable(tmp_path: Path) -> None:
    write(tmp_path, {"grown": "x" * 11, "full": "x" * 10})
    with Tree(str(tmp_path)) as tree:
        assert tree.read("full", 10).data == b"x" * 10
        with pytest.raises(UnstableError, match="grown to more than 10 bytes"):
            tree.read("grown", 10)


def test_a_file_without_permission_is_unreadable_and_not_gone(tmp_path: Path) -> None:
    write(tmp_path, {"closed": "", "d/file": ""})
    (tmp_path / "closed").chmod(0)
    (tmp_path / "d").chmod(0)
    with Tree(str(tmp_path)) as tree:
        if os.geteuid() == 0:  # root may read anything, so somebody else reads
            tmp_path.chmod(0o755)
            os.seteuid(NOBODY)
        try:
            for path in ("closed", "d/file"):
                with pytest.raises(UnreadableError, match="Permission denied"):
                    tree.read(path, LIMIT)
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            (tmp_path / "d").chmod(0o700)


def test_names_as_long_and_odd_as_they_may_be_are_read(tmp_path: Path) -> None:
    names = ["n" * 255, "new\nline/" + "n" * 255, "-rf", "é/漢字", " "]
    write(tmp_path, dict.fromkeys(names, "text"))
    with Tree(str(tmp_path)) as tree:
        assert [tree.read(name, LIMIT).data for name in names] == [b"text"] * len(names)
        with pytest.raises(UnreadableError, match="File name too long"):
            tree.read("n" * 256, LIMIT)


def test_a_file_that_is_written_while_it_is_read_is_unstable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"moving": "before"})
    real = os.read

    def read_and_be_overtaken(fd: int, size: int) -> bytes:
        data = real(fd, size)
        with (tmp_path / "moving").open("a") as file:
            file.write("more")
        return data

    monkeypatch.setattr(os, "read", read_and_be_overtaken)
    with Tree(str(tmp_path)) as tree, pytest.raises(UnstableError, match="changed while it was read"):
        tree.read("moving", LIMIT)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    write(tmp_path, {f"d{n}/e/f": "x" for n in range(5)})
    before = set(os.listdir("/proc/self/fd"))
    with Tree(str(tmp_path)) as tree:
        for n in range(5):
            tree.read(f"d{n}/e/f", LIMIT)
            with pytest.raises(VanishedError):
                tree.read(f"d{n}/e/none", LIMIT)
            with pytest.raises(VanishedError):
                tree.read(f"d{n}/none/f", LIMIT)
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() >= 1


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"plain\r\nlines\rstay\n", "plain\r\nlines\rstay\n"),
        ("naïve 漢字".encode(), "naïve 漢字"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("wide\n".encode("utf-16"), "wide\n"),
        ("wide\n".encode("utf-16-be").join([b"\xfe\xff", b""]), "wide\n"),
        ("wider\n".encode("utf-32"), "wider\n"),
        ("Ein Gruß aus München, schöne Grüße und tschüß für heute.\n".encode("latin-1") * 5, None),
    ],
)
def test_text_is_decoded(data: bytes, text: str | None) -> None:
    found = classify(data)
    assert isinstance(found, str)
    assert not isinstance(found, Skip)
    assert found == text if text is not None else "Grüße" in found


def test_a_nul_byte_makes_a_file_binary() -> None:
    assert classify(b"\x7fELF\x02\x00\x00") is Skip.BINARY


def test_what_begins_like_a_byte_order_mark_and_has_nul_characters_is_binary() -> None:
    assert classify(b"\xff\xfe" + bytes(range(1, 41)) + b"\0\0\x01\x02") is Skip.BINARY


@pytest.mark.parametrize("comment", ["/* (C) 2001 André Hedrick */", "# Jörg Müller, José Peña"])
def test_a_name_in_a_comment_does_not_make_a_file_undecodable_however_far_down_it_is(comment: str) -> None:
    for lines in (0, 20, 20_000):
        text = "int main(void) { return 0; }\n" * lines + comment + "\n"
        assert classify(text.encode("latin-1")) == text


def test_a_table_of_accented_letters_is_text() -> None:
    text = "".join(f"compose '`' 'a' to '{letter}'\n" for letter in "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñ")
    assert classify(text.encode("latin-1")) == text


@pytest.mark.parametrize("encoding", ["shift_jis", "euc_jp"])
def test_comments_among_code_tell_the_encoding(encoding: str) -> None:
    code = "static int foo(void)\n{\n\treturn bar(1, 2);\n}\n" * 3000
    text = code + "// 文字列の長さを確認する\n/* エラーの場合はゼロを返す */\n" + code
    assert classify(text.encode(encoding)) == text


def test_a_character_on_the_border_of_the_sample_does_not_hide_the_encoding() -> None:
    text = "これは日本語の文章です。文字コードを判定します。\n" * 2500
    for shift in range(2):
        assert classify(("a" * shift + text).encode("shift_jis")) == "a" * shift + text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_a_secret_is_found_in_whatever_encoding(encoding: str) -> None:
    token = "ghp_" + "q7Zk2mX9" * 4 + "Lw4T"
    assert classify(f"token = {token}\n".encode(encoding)) is Skip.SECRET


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\x90", b"\xe2\x80", b"\xed"])
@pytest.mark.parametrize("text", ["Schöne Grüße, außer beim Öffnen.\n", "これは日本語の文章です。\n"])
def test_one_broken_byte_costs_a_utf8_file_one_character(text: str, broken: bytes) -> None:
    lines = text * 20
    assert classify(lines.encode() + broken + lines.encode()) == f"{lines}\ufffd{lines}"


def test_a_file_that_ends_within_a_character_is_text() -> None:
    text = "文字列の長さ" * 50
    assert classify(text.encode()[:-1]) == text[:-1] + "\ufffd"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "Die Größe hängt von der Länge ab; schöne Grüße aus Köln.\n"),
        ("cp1252", "L’élève est allé au “CAFÉ” où il préfère étudier ; ça coûte « trop » – naïveté…\n"),
        ("cp1251", "Функция возвращает значение ошибки, если файл не найден; проверка длины строки.\n"),
        ("koi8-r", "Функция возвращает значение ошибки, если файл не найден; проверка длины строки.\n"),
        ("cp1253", "Η συνάρτηση επιστρέφει σφάλμα αν το αρχείο δεν υπάρχει.\n"),
        ("shift_jis", "これは日本語の文章です。エラーの場合はゼロを返す。\n"),
        ("euc_jp", "これは日本語の文章です。エラーの場合はゼロを返す。\n"),
        ("gb18030", "这是一个中文文件，如果文件不存在则返回错误代码。检查字符串的长度。\n"),
        ("big5", "這是一個中文檔案，如果檔案不存在則返回錯誤代碼。檢查字串的長度。\n"),
        ("euc_kr", "파일이 없으면 함수는 오류를 반환합니다. 문자열 길이를 확인하십시오.\n"),
        ("tis_620", "ฟังก์ชันส่งกลับข้อผิดพลาดหากไม่พบไฟล์\n"),
    ],
)
def test_text_in_another_encoding_is_not_taken_for_damaged_utf8(encoding: str, text: str) -> None:
    for lines in (1, 20):
        found = classify((text * lines).encode(encoding))
        assert found is Skip.UNDECODABLE or "\ufffd" not in found


@settings(deadline=None)
@given(
    parts=st.lists(
        st.tuples(
            st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufeff")),
            st.text(
                st.characters(min_codepoint=0xA0, exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=4
            ),
            st.sampled_from([b"", b"\xff", b"\x80", b"\xc3", b"\xe2\x80", b"\xf0\x9f\x98"]),
        ),
        min_size=1,
    )
)
def test_a_few_broken_bytes_are_replaced_and_the_rest_is_as_it_was(parts: list[tuple[str, str, bytes]]) -> None:
    data = b"".join(any.encode() + beyond.encode() + broken for any, beyond, broken in parts)
    expected = "".join(any + beyond + ("\ufffd" if broken else "") for any, beyond, broken in parts)
    assert classify(data, allow_secrets=True) == expected


def test_what_no_encoding_fits_is_undecodable() -> None:
    assert classify("half a character".encode("utf-16") + b"\xd8") is Skip.UNDECODABLE
    assert classify(bytes(range(128, 256)) * 3 + bytes(range(1, 32))) is Skip.UNDECODABLE


@settings(deadline=None)  # the first example imports what the others use
@given(data=st.binary(max_size=300))
def test_whatever_the_bytes_the_text_can_be_stored(data: bytes) -> None:
    found = classify(data)
    if not isinstance(found, Skip):
        found.encode()


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_utf8_comes_back_as_it_was(text: str) -> None:
    data = text.encode()
    if b"\0" not in data and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        assert classify(data) == text


def test_a_root_that_is_another_directory_than_was_listed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    listed = (tmp_path / "root").stat()
    (tmp_path / "root").rename(tmp_path / "unmounted")
    (tmp_path / "root").mkdir()
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(RootMissingError, match="another directory"):
        Tree(str(tmp_path / "root"), RootIdentity(listed.st_dev, listed.st_ino))
    assert set(os.listdir("/proc/self/fd")) == before
