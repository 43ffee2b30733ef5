"""JSON Web Token Best Current Practices, point by point: each class is a section of RFC 8725."""

import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker.identity.authenticator import Authenticator
from broker.identity.issuers import Issuer
from broker.identity.keys import UnusableKey, read_key
from tests.doubles.identity import (
    CORP,
    HeldKeys,
    KeysPerIssuer,
    Mint,
    SigningKey,
    StillClock,
    accepted,
    as_json,
    b64,
    cause_of,
)

CI = Issuer(name="ci", issuer="https://ci.example.com", audience="lightsail-broker-ci")


class Test31PerformAlgorithmVerification:
    @pytest.mark.parametrize("algorithm", ["none", "nOnE", "None", "NONE", "HS256", "RS1", "", "rs256", "dir"])
    async def test_an_algorithm_that_is_not_listed_is_refused(
        self, door: Authenticator, mint: Mint, algorithm: str
    ) -> None:
        refused = await cause_of(door, mint.token({"alg": algorithm}))
        assert refused == ("algorithm_not_allowed" if algorithm else "bad_header")

    async def test_an_empty_signature_is_refused(self, door: Authenticator, mint: Mint) -> None:
        header, payload, _ = mint.token({"alg": "none"}).split(".")
        assert await cause_of(door, f"{header}.{payload}.") == "malformed"

    async def test_a_public_key_is_never_used_as_a_shared_secret(self, mint: Mint, clock: StillClock) -> None:
        # Even where someone would list HS256, the settings refuse it.
        with pytest.raises(ValueError, match="algorithms must be some of"):
            replace(CORP, algorithms=("RS256", "HS256"))
        door = Authenticator([CORP], HeldKeys(mint.key), clock)
        public = mint.key.private.public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for secret in (pem, der, as_json(mint.key.jwk()), b"\xef\xbb\xbf" + pem, base64.b64encode(der)):
            signing_input = b64(as_json(mint.header(alg="HS256"))) + "." + b64(as_json(mint.claims()))
            mac = hmac.HMAC(secret, hashes.SHA256())
            mac.update(signing_input.encode())
            assert await cause_of(door, f"{signing_input}.{b64(mac.finalize())}") == "algorithm_not_allowed"

    @pytest.mark.parametrize(("signed", "claimed"), [("RS256", "PS256"), ("PS256", "RS256"), ("RS256", "ES256")])
    async def test_a_key_is_bound_to_its_own_algorithm(
        self, door: Authenticator, mint: Mint, signed: str, claimed: str
    ) -> None:
        signing_input = b64(as_json(mint.header(alg=claimed))) + "." + b64(as_json(mint.claims()))
        token = f"{signing_input}.{b64(mint.key.sign(signing_input.encode(), signed))}"
        assert await cause_of(door, token) == ("algorithm_not_allowed" if claimed != "RS256" else "bad_signature")

    async def test_es256_with_a_p384_key_is_refused(self, clock: StillClock) -> None:
        key = SigningKey("ES384", "p384")
        door = Authenticator([CORP], HeldKeys(key), clock)
        await accepted(door, Mint(clock, key).token())
        assert await cause_of(door, Mint(clock, key).token({"alg": "ES256"})) == "algorithm_not_allowed"

    async def test_a_key_without_alg_takes_any_listed_algorithm_of_its_type(
        self, mint: Mint, clock: StillClock
    ) -> None:
        door = Authenticator([CORP], HeldKeys(mint.key.jwk(alg=None)), clock)
        signing_input = b64(as_json(mint.header(alg="PS256"))) + "." + b64(as_json(mint.claims()))
        await accepted(door, f"{signing_input}.{b64(mint.key.sign(signing_input.encode(), 'PS256'))}")
        assert await cause_of(door, mint.token({"alg": "RS512"})) == "algorithm_not_allowed"

    @pytest.mark.parametrize("algorithm", ["RS256", "ES384", "EdDSA"])
    async def test_a_key_without_alg_takes_no_algorithm_of_another_type_or_curve(
        self, ec_key: SigningKey, clock: StillClock, algorithm: str
    ) -> None:
        door = Authenticator([CORP], HeldKeys(ec_key.jwk(alg=None)), clock)
        await accepted(door, Mint(clock, ec_key).token())
        assert await cause_of(door, Mint(clock, ec_key).token({"alg": algorithm})) == "algorithm_not_allowed"


class Test32UseAppropriateAlgorithms:
    @pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
    async def test_every_listed_asymmetric_algorithm_works(self, clock: StillClock, algorithm: str) -> None:
        key = SigningKey(algorithm, "k")
        await accepted(Authenticator([CORP], HeldKeys(key), clock), Mint(clock, key).token())

    async def test_ed25519_may_go_by_its_newer_name(self, clock: StillClock) -> None:
        key = SigningKey("Ed25519", "k")
        newer = replace(CORP, algorithms=("Ed25519",))
        await accepted(Authenticator([newer], HeldKeys(key), clock), Mint(clock, key).token())

    async def test_an_algorithm_taken_off_the_list_is_refused(self, mint: Mint, clock: StillClock) -> None:
        only_ec = replace(CORP, algorithms=("ES256",))
        assert (
            await cause_of(Authenticator([only_ec], HeldKeys(mint.key), clock), mint.token()) == "algorithm_not_allowed"
        )


class Test33ValidateAllCryptographicOperations:
    @pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
    async def test_a_flipped_bit_anywhere_is_refused(self, clock: StillClock, algorithm: str) -> None:
        key = SigningKey(algorithm, "k")
        door = Authenticator([CORP], HeldKeys(key), clock)
        header, payload, signature = Mint(clock, key).token().split(".")
        raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
        for place in range(0, len(raw), 7):
            raw[place] ^= 1
            assert await cause_of(door, f"{header}.{payload}.{b64(bytes(raw))}") == "bad_signature"
            raw[place] ^= 1

    async def test_degenerate_ecdsa_signatures_are_refused(self, clock: StillClock, ec_key: SigningKey) -> None:
        door = Authenticator([CORP], HeldKeys(ec_key), clock)
        header, payload, _ = Mint(clock, ec_key).token().split(".")
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        for r, s in [(0, 0), (1, 0), (0, 1), (order, 1), (1, order), (2**256 - 1, 2**256 - 1)]:
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
            assert await cause_of(door, f"{header}.{payload}.{b64(signature)}") == "bad_signature"

    async def test_an_ecdsa_signature_in_der_is_refused(self, clock: StillClock, ec_key: SigningKey) -> None:
        door = Authenticator([CORP], HeldKeys(ec_key), clock)
        header, payload, _ = Mint(clock, ec_key).token().split(".")
        assert isinstance(ec_key.private, ec.EllipticCurvePrivateKey)
        der = ec_key.private.sign(f"{header}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))
        assert await cause_of(door, f"{header}.{payload}.{b64(der)}") == "bad_signature"

    async def test_an_ed25519_signature_with_s_plus_l_is_refused(self, clock: StillClock, ed_key: SigningKey) -> None:
        door = Authenticator([CORP], HeldKeys(ed_key), clock)
        header, payload, signature = Mint(clock, ed_key).token().split(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        larger = int.from_bytes(raw[32:], "little") + 2**252 + 27742317777372353535851937790883648493
        forged = raw[:32] + larger.to_bytes(32, "little")
        assert await cause_of(door, f"{header}.{payload}.{b64(forged)}") == "bad_signature"

    @pytest.mark.parametrize("length", [1, 64, 255, 257, 512, 1024])
    @pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
    async def test_a_signature_of_another_length_is_refused(
        self, clock: StillClock, algorithm: str, length: int
    ) -> None:
        key = SigningKey(algorithm, "k")
        header, payload, _ = Mint(clock, key).token().split(".")
        door = Authenticator([CORP], HeldKeys(key), clock)
        assert await cause_of(door, f"{header}.{payload}.{b64(bytes(length))}") == "bad_signature"


class Test34ValidateCryptographicInputs:
    def test_a_point_off_the_curve_is_no_key(self, ec_key: SigningKey) -> None:
        with pytest.raises(UnusableKey, match="malformed"):
            read_key(ec_key.jwk(y=ec_key.jwk()["x"]))

    @pytest.mark.parametrize(
        "encoded",
        [
            (1).to_bytes(32, "little"),
            (0).to_bytes(32, "little"),
            (2**255 - 20).to_bytes(32, "little"),
            (2**255 - 19).to_bytes(32, "little"),
            (2**255 - 18).to_bytes(32, "little"),
            (2**256 - 20).to_bytes(32, "little"),
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            bytes(31),
        ],
    )
    def test_an_ed25519_point_of_small_order_is_no_key(self, ed_key: SigningKey, encoded: bytes) -> None:
        with pytest.raises(UnusableKey):
            read_key(ed_key.jwk(x=b64(encoded)))


class Test35EnsureCryptographicKeysHaveSufficientEntropy:
    def test_a_shared_secret_is_no_key_here_whatever_its_length(self) -> None:
        with pytest.raises(UnusableKey, match="symmetric"):
            read_key({"kty": "oct", "k": b64(bytes(64)), "alg": "HS256", "kid": "s"})

    def test_an_rsa_key_of_1024_bits_is_no_key(self, rsa_key: SigningKey) -> None:
        with pytest.raises(UnusableKey, match="weak"):
            read_key(rsa_key.jwk(n=b64(b"\xc3" + bytes(126) + b"\x01")))


class Test36AvoidCompressionOfEncryptionInputs:
    @pytest.mark.parametrize("member", ["zip", "enc"])
    async def test_a_compressed_or_encrypted_token_is_refused(
        self, door: Authenticator, mint: Mint, member: str
    ) -> None:
        assert await cause_of(door, mint.token({member: "DEF"})) == "bad_header"

    async def test_an_encrypted_token_is_not_even_decoded(self, door: Authenticator) -> None:
        five = ".".join([b64(as_json({"alg": "RSA-OAEP", "enc": "A256GCM"})), *["AAAA"] * 4])
        assert await cause_of(door, five) == "malformed"


class Test37UseUtf8:
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
    async def test_any_other_encoding_is_refused(self, door: Authenticator, mint: Mint, encoding: str) -> None:
        claims = json.dumps(mint.claims(sub="\xe9lise"), ensure_ascii=False)
        await accepted(door, mint.token())
        token = mint.raw(as_json(mint.header()), claims.encode(encoding))
        assert await cause_of(door, token) == "malformed"


class Test38ValidateIssuerAndSubject:
    @pytest.mark.parametrize(
        "issuer",
        [
            "https://id.example.com/",
            "https://ID.example.com",
            "https://id.example.com:443",
            "https://id.example.com.evil.test",
            "https://id.example.co",
            "https://id.exämple.com",
            " https://id.example.com",
            ["https://id.example.com"],
            {"https://id.example.com": 1},
            None,
            "",
            1,
            True,
        ],
    )
    async def test_the_issuer_must_be_the_same_byte_for_byte(
        self, door: Authenticator, mint: Mint, issuer: object
    ) -> None:
        assert await cause_of(door, mint.token(iss=issuer)) == "unknown_issuer"

    async def test_the_key_of_one_issuer_does_not_speak_for_another(self, mint: Mint, clock: StillClock) -> None:
        other = SigningKey("RS256", "rsa-1", generation=1)
        door = Authenticator([CORP, CI], KeysPerIssuer({"corp": HeldKeys(mint.key), "ci": HeldKeys(other)}), clock)
        await accepted(door, mint.token())
        assert await cause_of(door, Mint(clock, other).token()) == "bad_signature"
        await accepted(door, Mint(clock, other, CI).token())

    @pytest.mark.parametrize(
        "subject",
        [
            "",
            " ",
            "alice ",
            "\talice",
            "al\u200bice",
            "al\xa0ice",
            "\ufffe",
            "\U000e0041",
            "a" * 257,
            7,
            ["alice"],
            True,
        ],
    )
    async def test_a_subject_that_people_could_mistake_is_refused(
        self, door: Authenticator, mint: Mint, subject: object
    ) -> None:
        assert await cause_of(door, mint.token(sub=subject)) in {"bad_subject", "malformed"}

    async def test_a_token_without_subject_is_refused(self, door: Authenticator, mint: Mint) -> None:
        assert await cause_of(door, mint.token(sub=None)) == "claim_missing"


class Test39UseAndValidateAudience:
    @pytest.mark.parametrize(
        "audience",
        [
            None,
            "",
            "lightsail-broker-ci",
            "lightsail-broke",
            "LIGHTSAIL-BROKER",
            [],
            ["lightsail-broker", "other"],
            ["other"],
            ["lightsail-broker", "lightsail-broker"],
            [["lightsail-broker"]],
            {"lightsail-broker": True},
            True,
        ],
    )
    async def test_a_token_for_somebody_else_is_refused(
        self, door: Authenticator, mint: Mint, audience: object
    ) -> None:
        assert await cause_of(door, mint.token(aud=audience)) == "wrong_audience"

    async def test_a_list_with_the_one_audience_is_accepted(self, door: Authenticator, mint: Mint) -> None:
        await accepted(door, mint.token(aud=["lightsail-broker"]))

    async def test_the_audience_of_another_issuer_does_not_count(self, mint: Mint, clock: StillClock) -> None:
        door = Authenticator([CORP, CI], HeldKeys(mint.key), clock)
        assert await cause_of(door, mint.token(aud=CI.audience)) == "wrong_audience"


class Test310DoNotTrustReceivedClaims:
    @pytest.mark.parametrize("member", ["jku", "jwk", "x5u", "x5c", "crit", "cty", "b64", "p2c", "url", "nonce"])
    async def test_a_header_that_brings_keys_or_extensions_is_refused(
        self, door: Authenticator, mint: Mint, member: str
    ) -> None:
        value = {"jwk": mint.key.jwk(), "x5c": ["MIIB"], "crit": ["b64"], "b64": False}.get(member, "https://evil.test")
        assert await cause_of(door, mint.token({member: value})) == "bad_header"

    @pytest.mark.parametrize("key_id", ["../../etc/passwd", "' OR 1=1 --", "http://169.254.169.254/", "rsa-1 "])
    async def test_a_key_id_is_only_ever_looked_up(self, door: Authenticator, mint: Mint, key_id: str) -> None:
        assert await cause_of(door, mint.token({"kid": key_id})) == "unknown_key"

    @pytest.mark.parametrize("key_id", [7, ["rsa-1"], {}, True, "", "k" * 257])
    async def test_a_key_id_is_a_short_text(self, door: Authenticator, mint: Mint, key_id: object) -> None:
        assert await cause_of(door, mint.token({"kid": key_id})) == "bad_header"

    async def test_no_key_id_is_refused_where_the_issuer_has_several_keys(
        self, door: Authenticator, mint: Mint, clock: StillClock
    ) -> None:
        assert await cause_of(door, mint.token({"kid": None})) == "key_id_missing"
        await accepted(Authenticator([CORP], HeldKeys(mint.key), clock), mint.token({"kid": None}))

    async def test_a_thumbprint_that_large_issuers_send_is_ignored(self, door: Authenticator, mint: Mint) -> None:
        await accepted(door, mint.token({"x5t": "bm9ib2R5IGxvb2tz"}))


class Test311UseExplicitTyping:
    @pytest.mark.parametrize("name", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"])
    async def test_an_access_token_says_so(self, door: Authenticator, mint: Mint, name: str) -> None:
        await accepted(door, mint.token({"typ": name}))

    @pytest.mark.parametrize(
        "name", ["JWT", "jwt", "at+jwt ", "x/at+jwt", "text/at+jwt", "logout+jwt", "dpop+jwt", None]
    )
    async def test_anything_else_is_refused(self, door: Authenticator, mint: Mint, name: str | None) -> None:
        assert await cause_of(door, mint.token({"typ": name})) == "wrong_type"

    async def test_an_issuer_that_sends_plain_ones_can_be_allowed_to(self, mint: Mint, clock: StillClock) -> None:
        lax = replace(CORP, token_types=("at+jwt", "JWT"))
        await accepted(Authenticator([lax], HeldKeys(mint.key), clock), mint.token({"typ": "jwt"}))


class Test312UseMutuallyExclusiveValidationRules:
    @pytest.mark.parametrize("claim", ["nonce", "at_hash", "c_hash", "s_hash", "events"])
    async def test_tokens_of_other_kinds_are_refused_even_where_plain_ones_are_allowed(
        self, mint: Mint, clock: StillClock, claim: str
    ) -> None:
        lax = replace(CORP, token_types=("at+jwt", "JWT"))
        door = Authenticator([lax], HeldKeys(mint.key), clock)
        assert await cause_of(door, mint.token({"typ": "JWT"}, **{claim: "x"})) == "wrong_type"

    @pytest.mark.parametrize("confirmation", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None, "x", 0])
    async def test_a_bound_token_is_no_bearer_token(
        self, door: Authenticator, mint: Mint, confirmation: object
    ) -> None:
        claims = mint.claims() | {"cnf": confirmation}
        assert await cause_of(door, mint.raw(as_json(mint.header()), as_json(claims))) == "binding_unproved"

    async def test_an_unbound_token_is_refused_where_binding_is_required(self, mint: Mint, clock: StillClock) -> None:
        strict = replace(CORP, require_binding=True)
        assert await cause_of(Authenticator([strict], HeldKeys(mint.key), clock), mint.token()) == "binding_required"
