package pullpolicy

import (
	"fmt"
	"strings"
)

// An Operation is the operation of an AdmissionReview.
type Operation string

// The operations for which AlwaysPullImages applies.
const (
	Create Operation = "CREATE"
	Update Operation = "UPDATE"
)

// AlwaysPullImages is a request to the admission plug-in of this name. Because of the
// plug-in the registry checks each use of a private image (k8s.io/kubernetes,
// plugin/pkg/admission/alwayspullimages). A server calls Mutate in its mutating webhook and
// Validate in its validating one.
type AlwaysPullImages struct {
	// Resource is the resource of the object: its plural, followed by a dot and its
	// API group unless that is the core group ("pods", "deployments.apps"). "" means
	// pods. The plug-in looks only at pods.
	Resource string
	// Subresource is the part of the object that is written, "" for the whole object. The
	// plug-in ignores requests for a subresource, so ephemeral containers, which are added
	// through one, keep their policy.
	Subresource string
	// Operation is Create or Update; "" means Create. The plug-in ignores all other
	// operations.
	Operation Operation
	// Images are all images of the Pod, as the function [Images] returns them.
	Images []PodImage
	// OldImages are all images of the Pod before an update.
	OldImages []PodImage
}

// Applies reports whether the plug-in looks at the request: a Pod is created, or a Pod is
// updated and gets a container image that it did not have. The plug-in ignores an update
// that brings new images only for volumes.
func (a AlwaysPullImages) Applies() bool {
	if a.Subresource != "" || a.Resource != "" && a.Resource != "pods" {
		return false
	}
	switch a.Operation {
	case "", Create:
		return true
	case Update:
		return a.newImage()
	}
	return false
}

func (a AlwaysPullImages) newImage() bool {
	old := make(map[string]bool, len(a.OldImages))
	for _, i := range a.OldImages {
		if !i.Volume {
			old[i.Name] = true
		}
	}
	for _, i := range a.Images {
		if !i.Volume && !old[i.Name] {
			return true
		}
	}
	return false
}

// Mutate is the mutating half: if the plug-in looks at the request, Mutate sets the policy
// of all of a.Images to Always, in place. It reports whether it changed a policy.
func (a AlwaysPullImages) Mutate() bool {
	if !a.Applies() {
		return false
	}
	changed := false
	for i := range a.Images {
		if a.Images[i].Policy != Always {
			a.Images[i].Policy = Always
			changed = true
		}
	}
	return changed
}

// Validate is the validating half: if the plug-in looks at the request, each image must
// have the policy Always. The error is a *[ForbiddenError].
func (a AlwaysPullImages) Validate() error {
	if !a.Applies() {
		return nil
	}
	var bad []PodImage
	for _, i := range a.Images {
		if i.Policy != Always {
			bad = append(bad, i)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &ForbiddenError{Images: bad}
}

// A ForbiddenError lists the images that [AlwaysPullImages] refuses. It wraps
// [ErrForbidden].
type ForbiddenError struct{ Images []PodImage }

// Error names up to ten of the images.
func (e *ForbiddenError) Error() string {
	const most = 10
	var b strings.Builder
	b.WriteString("AlwaysPullImages: ")
	for n, i := range e.Images {
		if n == most {
			fmt.Fprintf(&b, "; and %d more", len(e.Images)-most)
			break
		}
		if n > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%.200q is %.80q", i.field(), i.Policy)
	}
	b.WriteString("; write Always")
	return b.String()
}

// Unwrap returns ErrForbidden, for errors.Is.
func (e *ForbiddenError) Unwrap() error { return ErrForbidden }
