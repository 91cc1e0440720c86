//go:build unix

package imageverifier

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/imageverifier/bindir"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/verify"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A kind is a kind of program, and the answer that both verifiers must give for it.
type kind struct {
	script string
	admits bool
	// decides says that the program has judged the image. Otherwise it has failed.
	decides bool
}

var kinds = map[string]kind{
	"admits":                        {"exit 0", true, true},
	"admits with a reason":          {"echo signed by key 7", true, true},
	"writes much, but not too much": {"i=0; while [ $i -lt 300 ]; do echo 0123456789; i=$((i+1)); done", true, true},
	"writes to its stderr":          {"echo noise >&2; exit 0", true, true},
	"reads its input":               {`[ "$(/bin/cat)" != "" ]`, true, true},
	"checks its arguments":          {`[ "$1 $3 $5" = "-name -digest -stdin-media-type" ] && [ "$6" = application/vnd.oci.descriptor.v1+json ]`, true, true},
	"admits only another name":      {`[ "$2" = other ]`, false, true},
	"checks the name":               {`case "$2" in registry.example/*) exit 0;; esac; exit 1`, true, true},
	"checks the digest":             {`/bin/cat | /bin/grep -q "$4"`, true, true},
	"checks the size":               {`/bin/grep -q '"size":7'`, true, true},
	"refuses":                       {"exit 1", false, true},
	"refuses with a reason":         {"echo unsigned; exit 2", false, true},
	"refuses with 255":              {"exit 255", false, true},
	"command not found":             {"/absent/command", false, true},
	"ends by a signal":              {"kill -9 $$", false, false},
	"ends by another signal":        {"kill -TERM $$", false, false},
	"takes too long":                {"exec /bin/sleep 30", false, false},
}

// For each directory of programs, both verifiers admit the image, or both refuse it, or both
// fail.
func TestProgramsAgreeWithContainerd(t *testing.T) {
	names := slices.Sorted(maps.Keys(kinds))
	r := rand.New(rand.NewPCG(1, 2))
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("x"), Size: 7}
	const image = "registry.example/team/app:v1"
	sets := [][]string{}
	for _, name := range names {
		sets = append(sets, []string{name}, []string{"admits", name}, []string{name, "admits"}, []string{"refuses", name})
	}
	for range 40 {
		set := make([]string, 1+r.IntN(4))
		for i := range set {
			set[i] = names[r.IntN(len(names))]
		}
		sets = append(sets, set)
	}
	admitted, refused, failed := 0, 0, 0
	for _, set := range sets {
		dir := t.TempDir()
		for i, name := range set {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("#!/bin/sh\n"+kinds[name].script+"\n"), 0o755))
		}
		what := strings.Join(set, ", then ")
		theirs := bindir.NewImageVerifier(&bindir.Config{BinDir: dir, MaxVerifiers: -1, PerVerifierTimeout: 1e9})
		judgement, theirErr := theirs.VerifyImage(t.Context(), image, desc)
		ours, err := verify.Programs(dir, verify.Config{Timeout: time.Second})
		require.NoError(t, err)
		by, ourErr := ours.Admit(t.Context(), content.Admission{Ref: reference.MustParse(image), Top: desc})

		want := first(set)
		assert.Equal(t, want.admits, ourErr == nil, "%s: %v", what, ourErr)
		assert.Equal(t, want.admits, theirErr == nil && judgement.OK, "%s: %v", what, theirErr)
		assert.Equal(t, want.decides, theirErr == nil, "%s: %v", what, theirErr)
		switch {
		case ourErr == nil:
			admitted++
			assert.Equal(t, plain(judgement.Reason), plain(by), what)
		case want.decides:
			refused++
			assert.Equal(t, content.ErrRefused, content.ReasonOf(ourErr), what)
		default:
			failed++
			assert.Equal(t, content.ErrCheckFailed, content.ReasonOf(ourErr), what)
		}
	}
	assert.NotZero(t, admitted)
	assert.NotZero(t, refused)
	assert.NotZero(t, failed)
	t.Logf("%d directories: both admit %d, both refuse %d, both fail in %d", len(sets), admitted, refused, failed)
}

// first returns the kind of the program that decides, which is the first program that does not
// admit the image. If all admit it, first returns the kind that admits.
func first(set []string) kind {
	for _, name := range set {
		if k := kinds[name]; !k.admits {
			return k
		}
	}
	return kinds["admits"]
}

// plain removes from a reason what differs on purpose: the spaces of long outputs, which package
// verify cuts, and the arrow of a program without a reason.
func plain(reason string) string {
	var parts []string
	for part := range strings.SplitSeq(reason, ", ") {
		part = strings.TrimSuffix(strings.TrimSpace(part), " =>")
		if len(part) > 60 {
			part = part[:15]
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}
