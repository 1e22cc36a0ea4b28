package window

// MetadataPoison is the metadata key under which a driver says why a message must not be handled but become a dead
// letter: it could not be read, or it ended the process each time it was started.
const MetadataPoison = "poison"

// MetadataPoisonClass is the metadata key under which a driver names the error class of that dead letter, such as
// "poison"; without it the class is "unreadable".
const MetadataPoisonClass = "poison_class"
