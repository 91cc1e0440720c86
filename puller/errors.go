package puller

import (
	"fmt"
	"time"

	"github.com/pullkit/pullkit/credentials"
)

// A Reason says why a pull did not succeed, spelled as in a container status.
// Reasons are errors themselves, so that errors.Is(err, puller.ErrImagePullBackOff) works.
type Reason string

func (r Reason) Error() string { return string(r) }

// The reasons of the kubelet.
const (
	ErrImagePull           Reason = "ErrImagePull"
	ErrImagePullBackOff    Reason = "ImagePullBackOff"
	ErrImageNeverPull      Reason = "ErrImageNeverPull"
	ErrImageInspect        Reason = "ImageInspectError"
	ErrInvalidImageName    Reason = "InvalidImageName"
	ErrRegistryUnavailable Reason = "RegistryUnavailable"
	ErrSignatureValidation Reason = "SignatureValidationFailed"
)

// A RetryError is wrapped by a Runtime's error when the registry asked everybody
// to wait: no other credential is tried and the back-off lasts at least After.
type RetryError struct {
	After time.Duration
	Err   error
}

func (e *RetryError) Error() string {
	return fmt.Sprintf("retry after %v: %v", e.After, e.Err)
}

func (e *RetryError) Unwrap() error { return e.Err }

// An Error is why an image could not be pulled.
type Error struct {
	Reason     Reason
	Image      string                // as written in the request
	RetryAfter time.Duration         // how long the back-off or the server wants the caller to wait; 0 = not known
	Attempts   []credentials.Attempt // one for each credential tried, in order
	Err        error
}
