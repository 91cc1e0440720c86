package otel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// A runtime has no images at first, and pulls each image with the password "right".
type runtime struct{}

func (runtime) Status(context.Context, puller.Spec) (puller.Image, error) {
	return puller.Image{}, fs.ErrNotExist
}

func (runtime) Pull(_ context.Context, spec puller.Spec) (puller.Image, error) {
	if spec.Credential.Password.Reveal() != "right" {
		return puller.Image{}, fmt.Errorf("401: %w", fs.ErrPermission)
	}
	blob := ocispec.Descriptor{Digest: "sha256:1", Size: 10}
	spec.Progress(puller.Progress{Blob: blob, State: puller.BlobFetching, Done: 5, Total: 10, TotalDone: 5})
	spec.Progress(puller.Progress{Blob: blob, State: puller.BlobStored, Done: 10, Total: 10, TotalDone: 10})
	return puller.Image{Ref: spec.Ref, Digest: "sha256:2"}, nil
}

func TestEachCallHasASpan(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	spans := NewSpans(trace.NewTracerProvider(trace.WithSpanProcessor(recorder)).Tracer("test"))
	p, err := puller.New(puller.Config{Runtime: runtime{}, Events: spans.Event})
	require.NoError(t, err)
	keyring := credentials.Static{
		{Username: "a", Password: credentials.Conceal("wrong")},
		{Username: "b", Password: credentials.Conceal("right")},
	}
	req := puller.Request{Image: "a.example/a:1", Pod: credentials.Pod{Namespace: "team", Name: "web", UID: "1"}}
	_, err = p.Pull(t.Context(), req)
	require.Error(t, err)
	req.Keyring = keyring // new secrets are tried within the window
	_, err = p.Pull(t.Context(), req)
	require.NoError(t, err)

	ended := recorder.Ended()
	require.Len(t, ended, 2)
	assert.Empty(t, spans.open)
	failed, pulled := ended[0], ended[1]
	assert.Equal(t, codes.Error, failed.Status().Code)
	assert.Equal(t, `Failed to pull image "a.example/a:1": 401: permission denied`, failed.Status().Description)
	assert.Equal(t, []string{"Pulling", "AttemptFailed"}, names(failed))
	assert.Equal(t, codes.Ok, pulled.Status().Code)
	assert.Equal(t, []string{"Pulling", "AttemptFailed", "blob stored"}, names(pulled))
	assert.Contains(t, pulled.Attributes(), attribute.String("container.image.digest", "sha256:2"))
	assert.Contains(t, pulled.Attributes(), attribute.String("k8s.pod.name", "web"))
	assert.Contains(t, pulled.Attributes(), attribute.Int64("pullkit.bytes.done", 10))
	assert.NotContains(t, fmt.Sprintf("%+v", pulled.Events()), "wrong", "no secret")
}

func TestCallsWithoutAPullHaveASpan(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	spans := NewSpans(trace.NewTracerProvider(trace.WithSpanProcessor(recorder)).Tracer("test"))
	p, err := puller.New(puller.Config{Runtime: runtime{}, Events: spans.Event})
	require.NoError(t, err)
	for _, req := range []puller.Request{{Image: "UPPER"}, {Image: "a.example/a:1", Policy: "Never"}} {
		_, err := p.Pull(t.Context(), req)
		var e *puller.Error
		require.True(t, errors.As(err, &e))
	}
	require.Len(t, recorder.Ended(), 2)
	assert.Contains(t, recorder.Ended()[0].Attributes(), attribute.String("error.type", "InspectFailed"))
	assert.Contains(t, recorder.Ended()[1].Attributes(), attribute.String("error.type", "ErrImageNeverPull"))
	assert.Empty(t, spans.open)
}

func names(span trace.ReadOnlySpan) (out []string) {
	for _, e := range span.Events() {
		out = append(out, e.Name)
	}
	return out
}

// A pull secret that cannot be used is reported after the end of the call's span.
func TestAPullSecretThatCannotBeUsedLeavesNoSpanOpen(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	spans := NewSpans(trace.NewTracerProvider(trace.WithSpanProcessor(recorder)).Tracer("test"))
	p, err := puller.New(puller.Config{Runtime: runtime{}, Events: spans.Event})
	require.NoError(t, err)
	keyring := credentials.FromSecrets([]credentials.Secret{
		{Namespace: "team", Name: "bad", Type: "kubernetes.io/dockerconfigjson", Data: map[string]credentials.Sensitive{".dockerconfigjson": credentials.Conceal("{")}},
		{Namespace: "team", Name: "opaque", Type: "Opaque"},
	}, credentials.Rules{})
	_, err = p.Pull(t.Context(), puller.Request{Image: "a.example/a:1", Keyring: keyring})
	require.Error(t, err)
	assert.Empty(t, spans.open)
	require.Len(t, recorder.Ended(), 1)
	failed := recorder.Ended()[0]
	assert.Equal(t, []string{"Pulling", "AttemptFailed", "CredentialHint"}, names(failed))
	assert.Contains(t, failed.Status().Description, "is not JSON")
}
