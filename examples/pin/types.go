package main

import (
	"encoding/json"
	"fmt"
)

// The types below are the parts of admission.k8s.io/v1 and of a Pod that the webhook
// needs.

type admissionReview struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Request    *admissionRequest  `json:"request,omitempty"`
	Response   *admissionResponse `json:"response,omitempty"`
}

type admissionRequest struct {
	UID  string `json:"uid"`
	Kind struct {
		Group string `json:"group"`
		Kind  string `json:"kind"`
	} `json:"kind"`
	Operation string          `json:"operation"`
	Namespace string          `json:"namespace"`
	Object    json.RawMessage `json:"object"`
}

type admissionResponse struct {
	UID       string  `json:"uid"`
	Allowed   bool    `json:"allowed"`
	Status    *status `json:"status,omitempty"`
	PatchType string  `json:"patchType,omitempty"`
	Patch     []byte  `json:"patch,omitempty"` // base64 in JSON, as the API requires
}

type status struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
}

// An operation is one step of a JSON Patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value"`
}

type pod struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		ImagePullSecrets []struct {
			Name string `json:"name"`
		} `json:"imagePullSecrets"`
		InitContainers []container `json:"initContainers"`
		Containers     []container `json:"containers"`
		Volumes        []struct {
			Image struct {
				Reference string `json:"reference"`
			} `json:"image"`
		} `json:"volumes"`
	} `json:"spec"`
}

type container struct {
	Image string `json:"image"`
}

// A place is the path of an image's name in a Pod, and the name.
type place struct{ path, name string }

// images returns all images that the Pod names. It leaves out empty names, which the
// API server refuses.
func (p pod) images() (out []place) {
	add := func(name, format string, i int) {
		if name != "" {
			out = append(out, place{fmt.Sprintf(format, i), name})
		}
	}
	for i, c := range p.Spec.InitContainers {
		add(c.Image, "/spec/initContainers/%d/image", i)
	}
	for i, c := range p.Spec.Containers {
		add(c.Image, "/spec/containers/%d/image", i)
	}
	for i, v := range p.Spec.Volumes {
		add(v.Image.Reference, "/spec/volumes/%d/image/reference", i)
	}
	return out
}
