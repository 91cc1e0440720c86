// Package content is the contract between the parts of the built-in transfer:
// what a registry must give ([Source]), what a store must keep ([Store],
// [Ingest]), and the reasons that the errors of both have.
//
// The one call most users need asks for the reason of an error:
//
//	if errors.Is(err, content.ErrDigestMismatch) {
//		log.Print("not the bytes that were named: ", err)
//	}
//
// Implement Source or Store to use a registry or a store of another kind. Package
// pullertest has the tests for it.
//
// # Reasons
//
// What a Source and a Store owe is said at their methods; here are the reasons, one for
// each failure. The scenario column has the names that the hostile and faulty
// registry scenarios use, and the blob vectors where they differ; the status column
// the reason in a container's status that package puller makes of it; the last one
// says whether the credential loop goes on to the next credential. A RetryAfter in
// the error ends the loop whatever the reason.
//
//	Go                   scenario                       status                     next
//	ErrDigestMismatch    digest_mismatch                ErrImagePull               no
//	                     (DigestMismatch)
//	ErrSizeMismatch      size_mismatch (SizeMismatch)   ErrImagePull               no
//	ErrTooLarge          too_large                      ErrImagePull               no
//	ErrTooDeep           too_deep                       ErrImagePull               no
//	ErrBadManifest       bad_manifest                   ErrImagePull               no
//	ErrBadIndex          bad_index                      ErrImagePull               no
//	ErrBadDigest         bad_digest                     ErrImagePull               no
//	ErrBadReference      bad_reference                  ErrImagePull               no
//	ErrMediaType         media_type                     ErrImagePull               no
//	ErrNoPlatform        no_platform                    ErrImagePull               no
//	ErrNotFound          not_found (NotFound)           ErrImagePull               yes
//	ErrUnauthorized      unauthorized (Unauthorized)    ErrImagePull               yes
//	ErrDenied            denied                         ErrImagePull               yes
//	ErrRateLimited       rate_limited (RateLimited)     ErrImagePull               no
//	ErrUnavailable       unavailable                    RegistryUnavailable        yes
//	ErrForbiddenURL      forbidden_url                  ErrImagePull               no
//	ErrRedirect          redirect                       ErrImagePull               no
//	ErrRange             range                          ErrImagePull               no
//	ErrContentEncoding   content_encoding               ErrImagePull               no
//	ErrTLS               tls                            ErrImagePull               no
//	ErrNetwork           network                        RegistryUnavailable        no
//	ErrTimeout           timeout                        RegistryUnavailable        no
//	ErrStatus            unexpected_status              ErrImagePull               no
//	ErrStore             store (DiskFull)               ErrImagePull               no
//	ErrRefused           (none: an admission hook)      SignatureValidationFailed  no
//	ErrConfig            (none: a hosts.toml)           ErrImagePull               no
//
// ErrNotFound is also an fs.ErrNotExist, ErrUnauthorized and ErrDenied are an
// fs.ErrPermission. A caller that gave up (Canceled in the vectors) gets the
// error of its context, which has no Reason. A full disk, or a quota that is used up, is
// an ErrStore that is ErrNoSpace, and syscall.ENOSPC where the system has that name. A
// name that does not parse never gets this far: package puller answers it with
// InvalidImageName.
//
// # Left out
//
// Nothing here reads or writes: package registry has a Source, package layout a
// Store, and package transfer, which is all that most programs see, brings one
// into the other.
package content
