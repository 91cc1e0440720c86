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
		{"op": "replace", "path": "/spec/initContainers/0/image", "value": "HOST/team/migrate:v7@DIGEST"},
		{"op": "replace", "path": "/spec/containers/0/image", "value": "HOST/team/app:v1@DIGEST"}
	]`, patch)
}

// ask sends an AdmissionReview about an object to a webhook.
func ask(t *testing.T, h http.Handler, kind, object string) (int, *admissionResponse) {
	body := fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": {"uid": "u", "operation": "CREATE", "namespace": "web", "kind": {"kind": %q}, "object": %s}}`, kind, object)
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
			list = append(list, fmt.Sprintf(`{"image": %q}`, image))
		}
		return `{"spec": {"containers": [` + strings.Join(list, ",") + `]}}`
	}
	for name, tt := range map[string]struct {
		kind, object string
		patch        string
		denied       string
	}{
		"tag":                  {"Pod", containers(image), fmt.Sprintf(`[{"op": "replace", "path": "/spec/containers/0/image", "value": %q}]`, pinned), ""},
		"pinned":               {"Pod", containers(pinned), "", ""},
		"second of two":        {"Pod", containers(pinned, image), fmt.Sprintf(`[{"op": "replace", "path": "/spec/containers/1/image", "value": %q}]`, pinned), ""},
		"not for this machine": {"Pod", containers(mainframe), fmt.Sprintf(`[{"op": "replace", "path": "/spec/containers/0/image", "value": %q}]`, mainframe+"@"+elsewhere.Descriptor.Digest.String()), ""},
		"image volume":         {"Pod", fmt.Sprintf(`{"spec": {"volumes": [{}, {"image": {"reference": %q}}]}}`, image), fmt.Sprintf(`[{"op": "replace", "path": "/spec/volumes/1/image/reference", "value": %q}]`, pinned), ""},
		"another kind":         {"Service", `{}`, "", ""},
		"no such tag":          {"Pod", containers(reg.Host() + "/team/app:v2"), "", "/spec/containers/0/image"},
		"no image's name":      {"Pod", containers(image, "registry.invalid/Upper"), "", "upper case"},
		"not a Pod":            {"Pod", `[]`, "", "not a Pod"},
		"no image":             {"Pod", containers(""), "", ""},
		"pinned, short":        {"Pod", containers("pause@" + put.Descriptor.Digest.String()), "", ""},
		"too many images":      {"Pod", containers(strings.Split(strings.Repeat("a ", maxImages)+"a", " ")...), "", "101 images"},
	} {
		t.Run(name, func(t *testing.T) {
			code, answer := ask(t, hook, tt.kind, tt.object)
			require.Equal(t, http.StatusOK, code)
			assert.Equal(t, "u", answer.UID)
			assert.Equal(t, tt.denied == "", answer.Allowed)
			if tt.denied != "" {
				assert.Contains(t, answer.Status.Message, tt.denied)
			}
			if tt.patch == "" {
				assert.Empty(t, answer.Patch)
				return
			}
			assert.Equal(t, "JSONPatch", answer.PatchType)
			assert.JSONEq(t, tt.patch, string(answer.Patch))
		})
	}
}

func TestWebhookRefusesOtherRequests(t *testing.T) {
	hook, err := newWebhook(nil)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		method, body string
		code         int
	}{
		"GET":             {http.MethodGet, "", http.StatusMethodNotAllowed},
		"no JSON":         {http.MethodPost, "x", http.StatusBadRequest},
		"another version": {http.MethodPost, `{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {}}`, http.StatusBadRequest},
		"no request":      {http.MethodPost, `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}`, http.StatusBadRequest},
		"too long":        {http.MethodPost, `{"apiVersion": "` + strings.Repeat("x", maxReview) + `"}`, http.StatusBadRequest},
	} {
		w := httptest.NewRecorder()
		hook.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, "/", strings.NewReader(tt.body)))
		assert.Equal(t, tt.code, w.Code, name)
	}
}
