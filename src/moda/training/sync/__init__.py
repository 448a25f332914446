"""The sync expert: do lips and speech belong together?"""
