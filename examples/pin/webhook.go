package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/reference"
)

const (
	// maxReview is more bytes than etcd takes for an object and its old form.
	maxReview = 8 << 20
	// maxImages limits the work for one Pod.
	maxImages = 100
	// maxTime is less than the 10 s that the API server waits by default.
	maxTime = 9 * time.Second
)

// A secretsFunc gets pull secrets of a namespace.
type secretsFunc func(ctx context.Context, namespace string, names []string) (credentials.Keyring, error)

// A webhook pins the images of Pods. It belongs behind a MutatingWebhookConfiguration
// for Pods with operations CREATE and UPDATE.
type webhook struct {
	puller  *puller.Puller
	secrets secretsFunc
}

func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "POST an AdmissionReview", http.StatusMethodNotAllowed)
		return
	}
	var review admissionReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReview)).Decode(&review); err != nil {
		http.Error(w, "not an AdmissionReview", http.StatusBadRequest)
		return
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" || review.Request == nil {
		http.Error(w, "not an AdmissionReview of admission.k8s.io/v1 with a request", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxTime)
	defer cancel()
	answer := &admissionResponse{UID: review.Request.UID, Allowed: true}
	if patch, err := h.pin(ctx, review.Request); err != nil {
		answer.Allowed, answer.Status = false, &status{Message: err.Error(), Code: http.StatusUnprocessableEntity}
	} else if len(patch) > 0 {
		answer.Patch, _ = json.Marshal(patch) // a list of strings can always be encoded
		answer.PatchType = "JSONPatch"
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(admissionReview{APIVersion: review.APIVersion, Kind: review.Kind, Response: answer})
}

// pin returns one operation for each image that has no digest yet.
func (h *webhook) pin(ctx context.Context, req *admissionRequest) ([]operation, error) {
	if req.Kind.Group != "" || req.Kind.Kind != "Pod" || req.Operation == "DELETE" {
		return nil, nil
	}
	var pod pod
	if err := json.Unmarshal(req.Object, &pod); err != nil {
		return nil, fmt.Errorf("the object is not a Pod: %w", err)
	}
	images := pod.images()
	if len(images) > maxImages {
		return nil, fmt.Errorf("the Pod has %d images; at most %d can be pinned", len(images), maxImages)
	}
	// The API server adds the secrets of the service account before it calls a webhook.
	var names []string
	for _, secret := range pod.Spec.ImagePullSecrets {
		names = append(names, secret.Name)
	}
	secrets, err := h.secrets(ctx, req.Namespace, names)
	if err != nil {
		return nil, err
	}
	var patch []operation
	for _, image := range images {
		if ref, err := reference.Parse(image.name); err == nil && ref.Digest() != "" {
			continue
		}
		pinned, err := h.puller.Resolve(ctx, puller.Request{
			Image: image.name, Keyring: secrets, Pod: credentials.Pod{Namespace: req.Namespace, Name: pod.Metadata.Name},
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", image.path, err)
		}
		patch = append(patch, operation{Op: "replace", Path: image.path, Value: pinned.String()})
	}
	return patch, nil
}
