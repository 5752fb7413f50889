package listeners

// ForwardedAddr is reached by requests only, which makes it slow to fuzz.
var ForwardedAddr = forwardedAddr
