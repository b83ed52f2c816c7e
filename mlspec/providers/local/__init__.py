"""The local target: BentoML workers under a supervisor that outlives the command.

`release`    puts service, settings and artifact into a folder and builds a Bento of it
`client`     what a command calls: deploy, observe, stop, start, destroy
`supervisor` a process for each deployment: owns the port, starts, restarts and switches workers
`worker`     a process that answers requests: BentoML's application under uvicorn
"""
