"""The wire: protobuf definitions of facts and commands, and the code generated from them (`just schemas`).

Zone: any. May import: google.protobuf. Data only; what facts mean is orchestrator.events' business.
"""
