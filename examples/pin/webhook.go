package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

const (
	// maxReview is the longest AdmissionReview that is read, in bytes. It is more than etcd
	// takes for an object and its old form.
	maxReview = 8 << 20
	// maxImages limits the work for one Pod.
	maxImages = 100
	// maxTime is less than the 10 s that the API server waits by default.
	maxTime = 9 * time.Second
)

// A secretsFunc gets pull secrets of a namespace.
type secretsFunc func(ctx context.Context, namespace string, names []string) (credentials.Keyring, error)

// A webhook pins the images of Pods, and sets the pull policies that the API server would
// set. It belongs behind a MutatingWebhookConfiguration for the resources pods and
// pods/ephemeralcontainers with the operations CREATE and UPDATE.
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

// pin returns the operations that give each image of a Pod a digest and a pull policy.
func (h *webhook) pin(ctx context.Context, req *admissionRequest) ([]operation, error) {
	if req.Kind.Group != "" || req.Kind.Kind != "Pod" || req.Operation == "DELETE" {
		return nil, nil
	}
	images, before, err := podImages(req)
	if err != nil {
		return nil, err
	}
	var pod pod
	if err := json.Unmarshal(req.Object, &pod); err != nil {
		return nil, fmt.Errorf("the object is not a Pod: %w", err)
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
	digests := map[string]string{} // by name: a name that the Pod has twice gets one digest
	for _, image := range images {
		// The API server refuses an empty name, unless another webhook fills it in. An image
		// that the Pod had before an update stays as it is, because the API server refuses
		// most changes to it.
		if image.Name == "" || slices.Contains(before, image) {
			continue
		}
		if image.Policy == "" { // by the name as written, because a digest changes the default
			policy := image.Policy.OrDefault(image.Name)
			patch = append(patch, operation{Op: "add", Path: image.PolicyPointer(), Value: string(policy)})
		}
		if ref, err := reference.Parse(image.Name); err == nil && ref.Digest() != "" {
			continue
		}
		if digests[image.Name] == "" {
			pinned, err := h.puller.Resolve(ctx, puller.Request{
				Image: image.Name, Keyring: secrets, Pod: credentials.Pod{Namespace: req.Namespace, Name: pod.Metadata.Name},
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", image.Path, err)
			}
			digests[image.Name] = pinned.String()
		}
		patch = append(patch, operation{Op: "replace", Path: image.NamePointer(), Value: digests[image.Name]})
	}
	return patch, nil
}

// podImages returns the images of the request's Pod, and those that it had before an update.
func podImages(req *admissionRequest) (now, before []pullpolicy.PodImage, err error) {
	if now, err = pullpolicy.Images(req.Object); err != nil {
		return nil, nil, err
	}
	if len(now) > maxImages {
		return nil, nil, fmt.Errorf("the Pod has %d images; at most %d can be pinned", len(now), maxImages)
	}
	if req.Operation == "UPDATE" {
		before, err = pullpolicy.Images(req.OldObject)
	}
	return now, before, err
}
