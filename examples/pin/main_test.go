package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/pullertest"
)

func TestDemonstrationPrintsAPatch(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, demo(t.Context(), &out))
	_, patch, found := strings.Cut(out.String(), "answers with:\n")
	require.True(t, found)
	patch = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(patch, "HOST")
	patch = regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAllString(patch, "DIGEST")
	assert.JSONEq(t, `[
		{"op": "add", "path": "/spec/initContainers/0/imagePullPolicy", "value": "IfNotPresent"},
		{"op": "replace", "path": "/spec/initContainers/0/image", "value": "HOST/team/migrate:v7@DIGEST"},
		{"op": "replace", "path": "/spec/containers/0/image", "value": "HOST/team/app:latest@DIGEST"},
		{"op": "add", "path": "/spec/volumes/0/image/pullPolicy", "value": "IfNotPresent"},
		{"op": "replace", "path": "/spec/volumes/0/image/reference", "value": "HOST/team/model:v3@DIGEST"}
	]`, patch)
}

// ask sends an AdmissionReview about an object to a webhook. The review is about an update
// if old is not "".
func ask(t *testing.T, h http.Handler, kind, object, old string) (int, *admissionResponse) {
	operation := "UPDATE"
	if old == "" {
		operation, old = "CREATE", "null"
	}
	body := fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": {"uid": "u", "operation": %q, "namespace": "web", "kind": {"kind": %q}, "object": %s, "oldObject": %s}}`, operation, kind, object, old)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body)))
	var review admissionReview
	if w.Code == http.StatusOK {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &review), w.Body.String())
	}
	return w.Code, review.Response
}

func TestWebhookPinsTheImagesOfPods(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{})
	require.NoError(t, err)
	image := reg.Host() + "/team/app:v1"
	pinned := image + "@" + put.Descriptor.Digest.String()
	elsewhere, err := reg.PutImage("team/mainframe:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "s390x"}, {OS: "plan9", Architecture: "mips"}}})
	require.NoError(t, err)
	mainframe := reg.Host() + "/team/mainframe:v1"
	hook, err := newWebhook(secretsFor("registry.invalid"))
	require.NoError(t, err)
	containers := func(images ...string) string {
		var list []string
		for _, image := range images {
			list = append(list, fmt.Sprintf(`{"image": %q, "imagePullPolicy": "Always"}`, image))
		}
		return `{"spec": {"containers": [` + strings.Join(list, ",") + `]}}`
	}
	op := func(op, path, value string) string {
		return fmt.Sprintf(`{"op": %q, "path": %q, "value": %q}`, op, path, value)
	}
	everywhere := fmt.Sprintf(`{"spec": {"ephemeralContainers": [{"image": %[1]q}], "containers": [{"image": %[1]q}], "initContainers": [{"image": %[1]q}],
		"volumes": [{}, {"image": {"reference": %[1]q}}]}}`, image)
	for name, tt := range map[string]struct {
		kind, object, old string
		patch             []string
		denied            string
	}{
		"tag":                  {kind: "Pod", object: containers(image), patch: []string{op("replace", "/spec/containers/0/image", pinned)}},
		"pinned":               {kind: "Pod", object: containers(pinned)},
		"second of two":        {kind: "Pod", object: containers(pinned, image), patch: []string{op("replace", "/spec/containers/1/image", pinned)}},
		"not for this machine": {kind: "Pod", object: containers(mainframe), patch: []string{op("replace", "/spec/containers/0/image", mainframe+"@"+elsewhere.Descriptor.Digest.String())}},
		"all places, no policies": {kind: "Pod", object: everywhere, patch: []string{
			op("add", "/spec/initContainers/0/imagePullPolicy", "IfNotPresent"), op("replace", "/spec/initContainers/0/image", pinned),
			op("add", "/spec/containers/0/imagePullPolicy", "IfNotPresent"), op("replace", "/spec/containers/0/image", pinned),
			op("add", "/spec/ephemeralContainers/0/imagePullPolicy", "IfNotPresent"), op("replace", "/spec/ephemeralContainers/0/image", pinned),
			op("add", "/spec/volumes/1/image/pullPolicy", "IfNotPresent"), op("replace", "/spec/volumes/1/image/reference", pinned),
		}},
		"pinned, no policy": {kind: "Pod", object: fmt.Sprintf(`{"spec": {"containers": [{"image": %q}]}}`, "pause:latest@"+put.Descriptor.Digest.String()),
			patch: []string{op("add", "/spec/containers/0/imagePullPolicy", "Always")}},
		"update, no change":    {kind: "Pod", object: everywhere, old: everywhere},
		"update of one":        {kind: "Pod", object: containers(image, image), old: containers(image, "old:v1"), patch: []string{op("replace", "/spec/containers/1/image", pinned)}},
		"update without a Pod": {kind: "Pod", object: containers(image), old: "{}", denied: "spec is required"},
		"another kind":         {kind: "Service", object: `{}`},
		"no such tag":          {kind: "Pod", object: containers(reg.Host() + "/team/app:v2"), denied: "spec.containers[0]: "},
		"not an image name":    {kind: "Pod", object: containers(image, "registry.invalid/Upper"), denied: "upper case"},
		"not a Pod":            {kind: "Pod", object: `[]`, denied: "not a Pod"},
		"empty name":           {kind: "Pod", object: containers("")},
		"pinned, short":        {kind: "Pod", object: containers("pause@" + put.Descriptor.Digest.String())},
		"too many images":      {kind: "Pod", object: containers(strings.Split(strings.Repeat("a ", maxImages)+"a", " ")...), denied: "101 images"},
	} {
		t.Run(name, func(t *testing.T) {
			code, answer := ask(t, hook, tt.kind, tt.object, tt.old)
			require.Equal(t, http.StatusOK, code)
			assert.Equal(t, "u", answer.UID)
			assert.Equal(t, tt.denied == "", answer.Allowed)
			if tt.denied != "" {
				assert.Contains(t, answer.Status.Message, tt.denied)
			}
			if tt.patch == nil {
				assert.Empty(t, answer.Patch)
				return
			}
			assert.Equal(t, "JSONPatch", answer.PatchType)
			assert.JSONEq(t, "["+strings.Join(tt.patch, ",")+"]", string(answer.Patch))
		})
	}
}

// A name that a Pod has twice gets one digest, from one request, which is a HEAD.
func TestWebhookAsksOnceForEachName(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{})
	require.NoError(t, err)
	hook, err := newWebhook(secretsFor("registry.invalid"))
	require.NoError(t, err)
	_, answer := ask(t, hook, "Pod", fmt.Sprintf(`{"spec": {"containers": [{"image": %[1]q}, {"image": %[1]q}]}}`, reg.Host()+"/team/app:v1"), "")
	require.True(t, answer.Allowed, "%v", answer.Status)
	assert.Equal(t, 1, reg.Counts().ManifestHead)
	assert.Zero(t, reg.Counts().ManifestGet)
}

func TestWebhookRefusesOtherRequests(t *testing.T) {
	hook, err := newWebhook(nil)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		method, body string
		code         int
	}{
		"GET":             {http.MethodGet, "", http.StatusMethodNotAllowed},
		"not JSON":        {http.MethodPost, "x", http.StatusBadRequest},
		"another version": {http.MethodPost, `{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {}}`, http.StatusBadRequest},
		"no request":      {http.MethodPost, `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}`, http.StatusBadRequest},
		"too long":        {http.MethodPost, `{"apiVersion": "` + strings.Repeat("x", maxReview) + `"}`, http.StatusBadRequest},
	} {
		w := httptest.NewRecorder()
		hook.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, "/", strings.NewReader(tt.body)))
		assert.Equal(t, tt.code, w.Code, name)
	}
}
