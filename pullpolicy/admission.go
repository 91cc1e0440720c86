package pullpolicy

import (
	"fmt"
	"strings"
)

// An Operation is what is being done to an object, as in an AdmissionReview.
type Operation string

// The operations that AlwaysPullImages looks at.
const (
	Create Operation = "CREATE"
	Update Operation = "UPDATE"
)

// An Image is one place in a Pod that names an image.
type Image struct {
	// Path is where it stands, for errors: "spec.initContainers[0]", "spec.volumes[2]".
	Path   string
	Name   string // as written
	Policy Policy
	Volume bool // it is an image volume's, not a container's
}

// field returns the path of the policy.
func (i Image) field() string {
	if i.Volume {
		return i.Path + ".image.pullPolicy"
	}
	return i.Path + ".imagePullPolicy"
}

// AlwaysPullImages is a request to the admission plug-in of this name, which
// makes each use of a private image be checked by its registry
// (k8s.io/kubernetes, plugin/pkg/admission/alwayspullimages). A server calls
// Mutate in its mutating webhook and Validate in its validating one.
type AlwaysPullImages struct {
	// Resource is the object's, plural, with a dot and its API group behind it
	// unless that is the core one: "pods", "deployments.apps". "" means pods, and
	// nothing but pods is looked at.
	Resource string
	// Subresource is the part of the object that is written, "" for the whole.
	// No subresource is looked at, so that ephemeral containers, which come
	// through one, keep their policy.
	Subresource string
	// Operation is Create or Update; "" means Create. No other is looked at.
	Operation Operation
	// Images are all of the Pod: those of its containers, init containers,
	// ephemeral containers and image volumes.
	Images []Image
	// OldImages are all of the Pod before an update.
	OldImages []Image
}

// Applies reports whether the plug-in looks at the request: a Pod is created,
// or updated with a container image that it did not have. Image volumes count
// for nothing there, so that an update of one alone is let through.
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

// Mutate is the mutating half: if the request applies, it sets the policy of
// all of a.Images to Always, in place, whatever it was. It returns whether one
// was changed.
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

// Validate is the validating half: if the request applies, each image must
// have the policy Always. The error is a *[ForbiddenError].
func (a AlwaysPullImages) Validate() error {
	if !a.Applies() {
		return nil
	}
	var bad []Image
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

// A ForbiddenError lists the images that [AlwaysPullImages] does not let
// through. It wraps [ErrForbidden].
type ForbiddenError struct{ Images []Image }

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
