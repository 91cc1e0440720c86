package verify_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These are the digests of "hello", computed by coreutils.
var hello = []digest.Digest{
	"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
	"sha384:59e1748777448c69de6b800d7a33bbfb9ff1b463e44354c3553bcdb9c666fa90125a3c79f90397bdf5f6a13de828684f",
	"sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043",
}

func TestBytesComparesWithEachAlgorithm(t *testing.T) {
	for _, d := range hello {
		require.NoError(t, verify.Digest(d))
		assert.True(t, verify.Bytes(d, []byte("hello")), d)
		assert.False(t, verify.Bytes(d, []byte("hello ")), d)
		h, err := verify.New(d)
		require.NoError(t, err)
		h.Write([]byte("hello"))
		assert.Equal(t, d, verify.Sum(d, h))
	}
	assert.False(t, verify.Bytes("md5:5d41402abc4b2a76b9719d911017c592", []byte("hello")))
}

func TestDigestRefusesWhatCannotBeVerified(t *testing.T) {
	good := string(hello[0])
	for _, d := range []string{
		"", ":", "sha256", "sha256:", good[:len(good)-1], good + "0", strings.ToUpper(good),
		"sha256:" + strings.ToUpper(good[7:]), "sha256:../" + good[10:], "sha256:" + good[7:70] + "/",
		"sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "sha512:" + good[7:], " " + good, good + "\n",
	} {
		assert.Error(t, verify.Digest(digest.Digest(d)), "%q", d)
		_, err := verify.New(digest.Digest(d))
		assert.Error(t, err, "%q", d)
	}
	assert.ErrorIs(t, verify.Digest("md5:5d41402abc4b2a76b9719d911017c592"), verify.ErrAlgorithm)
	long := verify.Digest(digest.Digest(strings.Repeat("x", 1000)))
	assert.Less(t, len(long.Error()), 200, "the input is cut")
}
