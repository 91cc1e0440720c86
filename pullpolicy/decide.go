package pullpolicy

import "strconv"

// A Presence is what is known of an image in the local store.
type Presence int

// What can be known of an image. The zero Presence is Unknown.
const (
	Unknown    Presence = iota // the store could not be asked
	Absent                     // it is not there
	Present                    // it is there, and this Pod may use it
	NeedsProof                 // it is there, but this Pod has to show the registry a credential first
)

// String returns the constant's name.
func (p Presence) String() string {
	switch p {
	case Unknown:
		return "Unknown"
	case Absent:
		return "Absent"
	case Present:
		return "Present"
	case NeedsProof:
		return "NeedsProof"
	}
	return "Presence(" + strconv.Itoa(int(p)) + ")"
}

// An Action is what is to be done to get an image.
type Action int

// What can be done. The zero Action is Fail.
const (
	Fail   Action = iota // nothing can be decided: ImageInspectError, or a policy that is none
	Use                  // the image in the store
	Pull                 // from the registry
	Refuse               // ErrImageNeverPull
)

// String returns the constant's name.
func (a Action) String() string {
	switch a {
	case Fail:
		return "Fail"
	case Use:
		return "Use"
	case Pull:
		return "Pull"
	case Refuse:
		return "Refuse"
	}
	return "Action(" + strconv.Itoa(int(a)) + ")"
}

// Decide returns what to do with an image of which this is known; the package
// comment has the table. A policy that is not set decides nothing: call
// [Policy.Or] first (k8s.io/kubernetes, pkg/kubelet/images, EnsureImageExists).
func (p Policy) Decide(known Presence) Action {
	switch p {
	case Always:
		return Pull
	case IfNotPresent:
		return decideLocal(known, Pull)
	case Never:
		return decideLocal(known, Refuse)
	}
	return Fail
}

// decideLocal prefers what is in the store and does otherwise without it.
func decideLocal(known Presence, otherwise Action) Action {
	switch known {
	case Present:
		return Use
	case Absent, NeedsProof:
		return otherwise
	}
	return Fail
}
