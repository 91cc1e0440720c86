package content

// fullNumbers is empty, because Plan 9 has no error numbers: its errors are texts of the
// file server.
var fullNumbers []error
