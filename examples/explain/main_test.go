package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller"
)

func TestEachSituationHasAdvice(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), false, &out))
	at := 0
	for _, want := range []string{
		"== The secret has an old password", "401 UNAUTHORIZED", `=> The registry does not accept secret "web/stale"`,
		"== The secret's key", "one anonymous try", `=> No credential is for this image. It is not secret "web/no-port", key "127.0.0.1": the port is another one.`,
		"== imagePullPolicy is Never", "policy      Never", "=> ErrImageNeverPull: the image is absent, and under the policy Never the registry is not asked",
		"== The image failed", "-> ImagePullBackOff", "=> The registry is not asked for another ",
	} {
		i := strings.Index(out.String()[at:], want)
		require.GreaterOrEqual(t, i, 0, "%q in order in:\n%s", want, out.String())
		at += i
	}
	assert.NotContains(t, out.String(), "the-old-password")
	assert.NotContains(t, out.String(), "the-new-password")
}

func TestEachSituationAsJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), true, &out))
	var actions []puller.Action
	var reasons []puller.Reason
	for line := range strings.Lines(out.String()) {
		var s situation
		require.NoError(t, json.Unmarshal([]byte(line), &s), line)
		actions, reasons = append(actions, s.Decision.Action), append(reasons, s.Decision.Reason)
		assert.NotEmpty(t, s.Advice)
	}
	assert.Equal(t, []puller.Action{puller.ActionPull, puller.ActionPull, puller.ActionFail, puller.ActionWait}, actions)
	assert.Equal(t, []puller.Reason{puller.ErrImagePull, puller.ErrImagePull, puller.ErrImageNeverPull, puller.ErrImagePullBackOff}, reasons)
}
