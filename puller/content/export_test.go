package content

// FullNumbers are the system's numbers for a full disk, for tests.
var FullNumbers = fullNumbers
