package main

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCandidatesAreTriedInOrder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	text := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(out.String(), "HOST")
	text = regexp.MustCompile(`"[^"]*config\.json"`).ReplaceAllString(text, "CONFIG")
	text = regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAllString(text, "DIGEST")
	assert.Equal(t, `Candidates for HOST/team/app, in order:
  1  robot   secret "web/stale", key "HOST/team"
  2  robot   secret "web/current", key "HOST"
  3  node    file CONFIG, key "HOST"

Each one, with the registry's answer:
     robot   401 Unauthorized
     robot   accepted

HOST/team/app:v1 is DIGEST
`, text)
}
